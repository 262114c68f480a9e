// Command accesslog is a reverse proxy that writes one line of JSON for each request, in the form of the test registry's own
// request log (tests/tools/registry). It stands before registries whose log does not say whether a request was authorized.
//
//	accesslog -listen ADDRESS -upstream URL -log FILE
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

// line is what the log tells about a request. It never holds credentials.
type line struct {
	Time          time.Time `json:"time"`
	Method        string    `json:"method"`
	Path          string    `json:"path"`
	Query         string    `json:"query,omitempty"`
	Status        int       `json:"status"`
	Authorization bool      `json:"authorization"` // the request had such a header
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("accesslog: ")
	listen := flag.String("listen", "127.0.0.1:0", "`address` to serve on")
	upstream := flag.String("upstream", "", "`URL` of the server behind")
	file := flag.String("log", "", "append to this `file`")
	flag.Parse()
	if err := run(*listen, *upstream, *file); err != nil {
		log.Fatal(err)
	}
}

func run(listen, upstream, file string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	if target.Scheme != "http" || target.Host == "" {
		return errors.New("-upstream wants an http URL")
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	server := http.Server{Addr: listen, Handler: newProxy(target, out), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// newProxy passes requests on as they came, Host included (registries put it into Location), and writes their lines before the
// answers leave: when a client has ended, its requests are all in the log.
func newProxy(target *url.URL, out io.Writer) http.Handler {
	var mu sync.Mutex
	write := func(r *http.Request, status int) {
		mu.Lock()
		defer mu.Unlock()
		err := json.NewEncoder(out).Encode(line{
			Time: time.Now().UTC(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Status: status,
			Authorization: r.Header.Get("Authorization") != "",
		})
		if err != nil {
			log.Print(err)
		}
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			write(r.Request, r.StatusCode)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Print(err)
			write(r, http.StatusBadGateway)
			w.WriteHeader(http.StatusBadGateway)
		},
		FlushInterval: -1,
	}
}
