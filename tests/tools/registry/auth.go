package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

type authOptions struct {
	kind           string // none, basic, token
	user, password string
	anonymousPull  bool // with token: pulling needs no password
}

// wrap puts the chosen kind of authentication before next.
func (o authOptions) wrap(next http.Handler) (http.Handler, error) {
	switch o.kind {
	case "none":
		return next, nil
	case "basic":
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !o.known(r) {
				challenge(w, `Basic realm="test"`)
				return
			}
			next.ServeHTTP(w, r)
		}), nil
	case "token":
		t := &tokenAuth{authOptions: o, next: next}
		mux := http.NewServeMux()
		mux.HandleFunc("/token", t.issue)
		mux.HandleFunc("/", t.check)
		return mux, nil
	}
	return nil, fmt.Errorf("-auth %q: want none, basic or token", o.kind)
}

// known tells whether a request carries the user's name and password.
func (o authOptions) known(r *http.Request) bool {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	user, password, ok := r.BasicAuth()
	return ok && same(user, o.user) && same(password, o.password)
}

// tokenAuth is the distribution token scheme in its simplest form: a token is good for pulling, or for everything.
type tokenAuth struct {
	authOptions
	next   http.Handler
	tokens sync.Map // token -> whether it is good for pushing
}

// issue hands out a token for the user's name and password or, if that is allowed, one for pulling to anyone.
func (t *tokenAuth) issue(w http.ResponseWriter, r *http.Request) {
	push := t.known(r)
	if !push && (!t.anonymousPull || r.Header.Get("Authorization") != "") {
		challenge(w, `Basic realm="test"`)
		return
	}
	token := rand.Text()
	t.tokens.Store(token, push)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token, "expires_in": 300, "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// check lets a request with a good token pass and tells others where to get one.
func (t *tokenAuth) check(w http.ResponseWriter, r *http.Request) {
	var token string
	if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &token); err != nil {
		token = ""
	}
	push, ok := t.tokens.Load(token)
	pull := r.Method == http.MethodGet || r.Method == http.MethodHead
	if ok && (pull || push == true) {
		t.next.ServeHTTP(w, r)
		return
	}
	scheme, actions := "http", "pull"
	if r.TLS != nil {
		scheme = "https"
	}
	if !pull {
		actions = "pull,push"
	}
	c := fmt.Sprintf(`Bearer realm="%s://%s/token",service="test"`, scheme, r.Host)
	if m := endpoint.FindStringSubmatch(r.URL.Path); m != nil {
		c += fmt.Sprintf(`,scope="repository:%s:%s"`, m[1], actions)
	}
	challenge(w, c)
}

func challenge(w http.ResponseWriter, c string) {
	w.Header().Set("WWW-Authenticate", c)
	sendError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}
