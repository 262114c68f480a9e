module packgate.dev/benches/webhook

go 1.24
