// trillian keeps the Merkle trees behind a Rekor v1, in memory: Trillian's log server and its sequencer in one process, without a
// database. Everything is forgotten when it ends.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	tlog "github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/server/interceptor"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"
)

// How often new leaves are put into the tree, and how many at once. A client that logs an entry waits for this.
const (
	sequenceEvery  = 100 * time.Millisecond
	sequenceAtOnce = 100
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8431", "`address` to serve gRPC on")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	metrics := monitoring.InertMetricFactory{}
	trees := memory.NewTreeStorage()
	registry := extension.Registry{
		AdminStorage:  memory.NewAdminStorage(trees),
		LogStorage:    memory.NewLogStorage(trees, metrics),
		QuotaManager:  quota.Noop(),
		MetricFactory: metrics,
	}
	go sequence(registry)
	log.Fatal(serve(listener, registry))
}

func sequence(registry extension.Registry) {
	info := tlog.OperationInfo{
		Registry:    registry,
		BatchSize:   sequenceAtOnce,
		NumWorkers:  1,
		RunInterval: sequenceEvery,
		TimeSource:  clock.System,
	}
	tlog.NewOperationManager(info, tlog.NewSequencerManager(registry, 0)).OperationLoop(context.Background())
}

func serve(listener net.Listener, registry extension.Registry) error {
	s := grpc.NewServer(grpc.UnaryInterceptor(interceptor.ErrorWrapper))
	trillian.RegisterTrillianAdminServer(s, admin.New(registry, nil))
	trillian.RegisterTrillianLogServer(s, server.NewTrillianLogRPCServer(registry, clock.System))
	return s.Serve(listener)
}
