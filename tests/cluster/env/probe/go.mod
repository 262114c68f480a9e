module packgate.example/tests/cluster/env/probe

go 1.26.0
