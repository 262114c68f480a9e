package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// failRules make a registry answer some requests with an error, whatever it would have said.
type failRules struct {
	mu    sync.Mutex
	rules []failRule
}

type failRule struct {
	text   string
	status int
	count  int // requests still to fail; -1: all
	method string
	path   *regexp.Regexp
}

// errorCodes are the specification's codes for statuses; others are UNKNOWN.
var errorCodes = map[int]string{
	http.StatusUnauthorized:    "UNAUTHORIZED",
	http.StatusForbidden:       "DENIED",
	http.StatusNotFound:        "NAME_UNKNOWN",
	http.StatusTooManyRequests: "TOOMANYREQUESTS",
}

// Set adds a rule: 'STATUS[xCOUNT] METHOD PATH-REGEXP'.
func (f *failRules) Set(text string) error {
	parts := strings.SplitN(text, " ", 3)
	if len(parts) != 3 {
		return errors.New("want 'STATUS[xCOUNT] METHOD PATH-REGEXP'")
	}
	rule := failRule{text: text, count: -1, method: parts[1]}
	status, count, counted := strings.Cut(parts[0], "x")
	var err error
	if rule.status, err = strconv.Atoi(status); err != nil || rule.status < 400 || rule.status > 599 {
		return fmt.Errorf("status %q is not one of an error", status)
	}
	if counted {
		if rule.count, err = strconv.Atoi(count); err != nil || rule.count < 1 {
			return fmt.Errorf("count %q is not a positive number", count)
		}
	}
	if rule.path, err = regexp.Compile(parts[2]); err != nil {
		return err
	}
	f.rules = append(f.rules, rule)
	return nil
}

// String returns the rules as they were given.
func (f *failRules) String() string {
	texts := make([]string, len(f.rules))
	for i, r := range f.rules {
		texts[i] = r.text
	}
	return strings.Join(texts, "; ")
}

// wrap applies the rules before next.
func (f *failRules) wrap(next http.Handler) http.Handler {
	if len(f.rules) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := f.match(r)
		if status == 0 {
			next.ServeHTTP(w, r)
			return
		}
		code, ok := errorCodes[status]
		if !ok {
			code = "UNKNOWN"
		}
		sendError(w, status, code, "this request was made to fail")
	})
}

// match returns the status a request is to fail with, 0 for none.
func (f *failRules) match(r *http.Request) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.rules {
		rule := &f.rules[i]
		if rule.count != 0 && (rule.method == "*" || rule.method == r.Method) && rule.path.MatchString(r.URL.Path) {
			if rule.count > 0 {
				rule.count--
			}
			return rule.status
		}
	}
	return 0
}
