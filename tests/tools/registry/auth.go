package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

type authOptions struct {
	kind           string // none, basic, token
	user, password string
	anonymousPull  bool // with token: pulling needs no password
	// A further user, whose passwords live this long: SECONDS.HEX, the time of issue and
	// sha256(password + SECONDS). The tokens for them end with them, whatever they say.
	timedUser string
	timedLife time.Duration
}

// wrap puts the chosen kind of authentication before next.
func (o authOptions) wrap(next http.Handler) (http.Handler, error) {
	switch o.kind {
	case "none":
		return next, nil
	case "basic":
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := o.known(r); !ok {
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

// known tells whether a request carries a user's name and password, and until when that counts; zero: for ever.
func (o authOptions) known(r *http.Request) (time.Time, bool) {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	user, password, ok := r.BasicAuth()
	if ok && o.timedUser != "" && same(user, o.timedUser) {
		issued, sum, _ := strings.Cut(password, ".")
		seconds, err := strconv.ParseInt(issued, 10, 64)
		until := time.Unix(seconds, 0).Add(o.timedLife)
		right := sha256.Sum256([]byte(o.password + issued))
		return until, err == nil && same(sum, hex.EncodeToString(right[:])) && time.Now().Before(until)
	}
	return time.Time{}, ok && same(user, o.user) && same(password, o.password)
}

// tokenAuth is the distribution token scheme in its simplest form: a token is good for pulling, or for everything.
type tokenAuth struct {
	authOptions
	next   http.Handler
	tokens sync.Map // token -> grant
}

type grant struct {
	push  bool
	until time.Time // zero: for ever
}

func (g grant) good(pull bool) bool {
	return (pull || g.push) && (g.until.IsZero() || time.Now().Before(g.until))
}

// issue hands out a token for the user's name and password or, if that is allowed, one for pulling to anyone.
func (t *tokenAuth) issue(w http.ResponseWriter, r *http.Request) {
	until, push := t.known(r)
	if !push && (!t.anonymousPull || r.Header.Get("Authorization") != "") {
		challenge(w, `Basic realm="test"`)
		return
	}
	token := rand.Text()
	t.tokens.Store(token, grant{push, until})
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
	found, ok := t.tokens.Load(token)
	pull := r.Method == http.MethodGet || r.Method == http.MethodHead
	if ok && found.(grant).good(pull) {
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
