// Asks a webhook over TLS as an API server does, and is one that does nothing, to compare with.
//
//	webhook serve ADDRESS CERT KEY                 admits whatever it is asked about
//	webhook ask URL CA SERVERNAME COUNT PARALLEL BODY...   each body COUNT times, by PARALLEL connections; prints JSON
//	webhook watch URL CA SERVERNAME SECONDS RATE BODY      RATE times a second, one after the other; prints JSON
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
	"strings"
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
	Status  *struct {
		Message string `json:"message"`
	} `json:"status,omitempty"`
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
	if len(os.Args) == 8 && os.Args[1] == "watch" {
		check(watch(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7]))
		return
	}
	check(fmt.Errorf("usage: webhook serve ADDRESS CERT KEY | ask URL CA SERVERNAME COUNT PARALLEL BODY... | watch URL CA SERVERNAME SECONDS RATE BODY"))
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

// newClient asks as an API server does: HTTP/2, and one connection for many reviews.
func newClient(ca, name string) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: name},
	}, Timeout: 10 * time.Second}, nil
}

// watch asks the same question for some time, and tells how long the answers took, and how many were none or a no.
func watch(url, ca, name, seconds, rate, file string) error {
	client, err := newClient(ca, name)
	if err != nil {
		return err
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	length, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	each, err := strconv.ParseFloat(rate, 64)
	if err != nil {
		return err
	}
	var took []time.Duration
	admitted, overloaded := 0, 0
	ticks := time.NewTicker(time.Duration(float64(time.Second) / each))
	defer ticks.Stop()
	for end := time.Now().Add(time.Duration(length * float64(time.Second))); time.Now().Before(end); <-ticks.C {
		start := time.Now()
		said := one(client, url, body)
		took = append(took, time.Since(start))
		switch {
		case said != nil && said.Allowed:
			admitted++
		case said != nil && said.Status != nil && strings.Contains(said.Status.Message, "Overloaded"):
			overloaded++
		}
		if said != nil && !said.Allowed && said.Status != nil {
			fmt.Fprintln(os.Stderr, said.Status.Message)
		}
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"asked":      len(took),
		"admitted":   admitted,
		"overloaded": overloaded,
		"p50ms":      took[len(took)/2].Seconds() * 1000,
		"p99ms":      took[len(took)*99/100].Seconds() * 1000,
		"mostms":     took[len(took)-1].Seconds() * 1000,
	})
}

func ask(url, ca, name, count, parallel string, files []string) error {
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
		client, err := newClient(ca, name)
		if err != nil {
			return err
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for at := worker; at < len(bodies); at += workers {
				start := time.Now()
				said := one(client, url, bodies[at])
				allowed[at] = said != nil && said.Allowed
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

// one is the answer to one review, or nil if there was none.
func one(client *http.Client, url string, body []byte) *response {
	answer, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return nil
	}
	defer answer.Body.Close()
	var said review
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || said.Response == nil {
		fmt.Fprintln(os.Stderr, answer.Status, err)
		return nil
	}
	return said.Response
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}
