module packgate.example/tests/tools/kms-plugin

go 1.26.0
