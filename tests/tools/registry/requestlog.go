package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// logLine is what the request log tells about a request. It never holds credentials.
type logLine struct {
	Time          time.Time `json:"time"`
	Method        string    `json:"method"`
	Path          string    `json:"path"`
	Query         string    `json:"query,omitempty"`
	Status        int       `json:"status"`
	Authorization bool      `json:"authorization"` // the request had such a header
}

// logRequests writes one line of JSON for each request, before its answer leaves: when a client has ended, its requests are
// all in the log.
func logRequests(out io.Writer, next http.Handler) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Taken now: handlers may change the request.
		line := logLine{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Authorization: r.Header.Get("Authorization") != ""}
		lw := &loggingWriter{ResponseWriter: w, write: func(status int) {
			mu.Lock()
			defer mu.Unlock()
			line.Time, line.Status = time.Now().UTC(), status
			if err := json.NewEncoder(out).Encode(line); err != nil {
				log.Print(err)
			}
		}}
		defer lw.begin(http.StatusOK)
		next.ServeHTTP(lw, r)
	})
}

// loggingWriter calls write with the status just before the response begins.
type loggingWriter struct {
	http.ResponseWriter
	write func(status int)
	begun bool
}

func (w *loggingWriter) begin(status int) {
	if !w.begun {
		w.begun = true
		w.write(status)
	}
}

func (w *loggingWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggingWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}
