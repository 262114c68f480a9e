package main

import (
	"bufio"
	"net/http"
	"os"
	"strings"
	"time"
)

// longestHold is how long a request is kept waiting at most, whatever the file says.
const longestHold = 2 * time.Minute

// hold keeps requests waiting for as long as a line 'METHOD PATH-PREFIX' in the file names them; without the file none waits. The
// program that made the request stands still meanwhile, which gives a test the time to do something to it.
func hold(file string, next http.Handler) http.Handler {
	if file == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for end := time.Now().Add(longestHold); isHeld(file, r) && time.Now().Before(end); {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		next.ServeHTTP(w, r)
	})
}

func isHeld(file string, r *http.Request) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		method, prefix, ok := strings.Cut(lines.Text(), " ")
		if ok && method == r.Method && strings.HasPrefix(r.URL.Path, prefix) {
			return true
		}
	}
	return false
}
