package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// request sends one request through a proxy before upstream, and returns the answer's Location and what was logged.
func request(t *testing.T, upstream string, authorization string) (location string, logged line, text string) {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	proxy := httptest.NewServer(newProxy(target, &out))
	defer proxy.Close()
	r, err := http.NewRequest(http.MethodPost, proxy.URL+"/v2/a/blobs/uploads/?mount=x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := json.Unmarshal(out.Bytes(), &logged); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	return strings.ReplaceAll(resp.Header.Get("Location"), proxy.URL, "SELF"), logged, out.String()
}

func upstream(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) != "body" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "http://"+r.Host+"/next")
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRequestIsPassedOnAndLogged(t *testing.T) {
	location, logged, _ := request(t, upstream(t), "")
	if location != "SELF/next" {
		t.Errorf("Location %q: the upstream did not see the client's Host", location)
	}
	want := line{Time: logged.Time, Method: "POST", Path: "/v2/a/blobs/uploads/", Query: "mount=x", Status: http.StatusAccepted}
	if logged != want {
		t.Errorf("logged %+v, want %+v", logged, want)
	}
}

func TestLogTellsOfAuthorizationButNotWhich(t *testing.T) {
	_, logged, text := request(t, upstream(t), "Bearer hunter2")
	if !logged.Authorization || strings.Contains(text, "hunter2") {
		t.Errorf("logged %s", text)
	}
}

func TestUpstreamThatIsDown(t *testing.T) {
	if _, logged, _ := request(t, "http://127.0.0.1:1", ""); logged.Status != http.StatusBadGateway {
		t.Errorf("status %d", logged.Status)
	}
}
