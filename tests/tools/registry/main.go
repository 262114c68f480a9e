// Command registry is a small OCI 1.1 registry for tests. It keeps everything in memory (blobs on request under -dir) and
// forgets it when it ends.
//
// It serves the referrers API with the artifactType filter, one-shot, streamed and chunked uploads, mounts, ranges and
// deletion, and it is strict where clients go wrong: a blob belongs to the repository it was pushed to, a manifest must
// match the digest it is pushed under, and everything it refers to must be there before it.
//
// The first line on standard output is "listening HOST:PORT", which is how callers learn the port of -listen 127.0.0.1:0.
// SIGTERM and SIGINT end it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("registry: ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var (
		store blobStore
		reg   registryOptions
		auth  authOptions
		fail  failRules
	)
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:5000", "`address` to serve on; port 0 takes a free one")
	flags.StringVar(&store.dir, "dir", "", "keep blobs in this `folder`, not in memory")
	flags.BoolVar(&reg.referrers, "referrers", true, "serve the referrers API; false: it answers 404, as registries without it do")
	flags.IntVar(&reg.page, "page", 0, "list at most `N` referrers at a time, with a link to the next page (0: all at once)")
	flags.StringVar(&auth.kind, "auth", "none", "none, basic (ask for -user and -password) or token (/token hands out bearer tokens for them)")
	flags.StringVar(&auth.user, "user", "test", "user `name`")
	flags.StringVar(&auth.password, "password", "test", "`password`")
	flags.StringVar(&auth.timedUser, "timed-user", "", "further user `name`, whose password is SECONDS.HEX: when it was issued, and the hex of sha256(-password + SECONDS)")
	flags.DurationVar(&auth.timedLife, "timed-life", 30*time.Second, "how long such a password is good, and every token for it")
	flags.BoolVar(&auth.anonymousPull, "anonymous", false, "with -auth token: pulling needs no password")
	flags.Var(&fail, "fail", "answer with an error: `'STATUS[xCOUNT] METHOD PATH-REGEXP'`, METHOD * for any; may be repeated")
	holdFile := flags.String("hold", "", "keep requests waiting while a line 'METHOD PATH-PREFIX' of this `file` names them; it need not exist")
	logFile := flags.String("log", "", "append one JSON object for each request to this `file`")
	cert := flags.String("tls-cert", "", "serve TLS with the certificate in this `file`")
	key := flags.String("tls-key", "", "and the key in this `file`")
	untilEOF := flags.Bool("until-eof", false, "end when standard input does, thus never outlive the caller that holds its other end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if (*cert == "") != (*key == "") {
		return errors.New("-tls-cert and -tls-key need each other")
	}

	if store.dir != "" {
		if err := os.MkdirAll(store.dir, 0o755); err != nil {
			return err
		}
	}
	handler, err := auth.wrap(newRegistry(&store, reg))
	if err != nil {
		return err
	}
	handler = hold(*holdFile, fail.wrap(handler))
	if *logFile != "" {
		f, err := os.OpenFile(*logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		handler = logRequests(f, handler)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			cancel()
		}()
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "listening %s\n", listener.Addr()); err != nil {
		return err
	}
	return serve(ctx, listener, handler, *cert, *key)
}

// serve answers requests until ctx ends, then gives those under way a moment to finish.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, cert, key string) error {
	server := http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		if cert != "" {
			done <- server.ServeTLS(listener, cert, key)
		} else {
			done <- server.Serve(listener)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	return nil
}
