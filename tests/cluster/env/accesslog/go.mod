module packgate.example/tests/cluster/env/accesslog

go 1.26.0
