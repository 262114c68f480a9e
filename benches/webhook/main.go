// Asks a webhook over TLS as an API server does, and is one that does nothing, to compare with.
//
//	webhook serve ADDRESS CERT KEY                 admits whatever it is asked about
//	webhook ask URL CA SERVERNAME COUNT PARALLEL BODY...   each body COUNT times, by PARALLEL connections; prints JSON
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    *struct {
		UID    string          `json:"uid"`
		Object json.RawMessage `json:"object"`
	} `json:"request,omitempty"`
	Response *response `json:"response,omitempty"`
}

type response struct {
	UID     string `json:"uid"`
	Allowed bool   `json:"allowed"`
}

func main() {
	if len(os.Args) > 4 && os.Args[1] == "serve" {
		check(serve(os.Args[2], os.Args[3], os.Args[4]))
		return
	}
	if len(os.Args) > 7 && os.Args[1] == "ask" {
		check(ask(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7:]))
		return
	}
	check(fmt.Errorf("usage: webhook serve ADDRESS CERT KEY | ask URL CA SERVERNAME COUNT PARALLEL BODY"))
}

func serve(address, cert, key string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var asked review
		if err := json.NewDecoder(io.LimitReader(r.Body, 8<<20)).Decode(&asked); err != nil || asked.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		answer := review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: &response{UID: asked.Request.UID, Allowed: true}}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
	return http.ListenAndServeTLS(address, cert, key, nil)
}

func ask(url, ca, name, count, parallel string, files []string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	times, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(parallel)
	if err != nil {
		return err
	}
	var bodies [][]byte
	for range times {
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			bodies = append(bodies, body)
		}
	}
	took := make([]time.Duration, len(bodies))
	allowed := make([]bool, len(bodies))
	begun := time.Now()
	var group sync.WaitGroup
	for worker := range workers {
		// As an API server: HTTP/2, and one connection for many reviews.
		client := &http.Client{Transport: &http.Transport{
			ForceAttemptHTTP2: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: name},
		}, Timeout: 10 * time.Second}
		group.Add(1)
		go func() {
			defer group.Done()
			for at := worker; at < len(bodies); at += workers {
				start := time.Now()
				allowed[at] = one(client, url, bodies[at])
				took[at] = time.Since(start)
			}
		}()
	}
	group.Wait()
	whole := time.Since(begun)
	admitted := 0
	for _, yes := range allowed {
		if yes {
			admitted++
		}
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"asked":     len(bodies),
		"admitted":  admitted,
		"p50ms":     took[len(took)/2].Seconds() * 1000,
		"p99ms":     took[len(took)*99/100].Seconds() * 1000,
		"perSecond": float64(len(bodies)) / whole.Seconds(),
	})
}

func one(client *http.Client, url string, body []byte) bool {
	answer, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	defer answer.Body.Close()
	var said review
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || said.Response == nil {
		fmt.Fprintln(os.Stderr, answer.Status, err)
		return false
	}
	return said.Response.Allowed
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}
