package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// do sends a request and returns status, header and body.
func do(t *testing.T, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// serveTest starts a registry and returns its URL up to and including /v2/.
func serveTest(t *testing.T, store *blobStore, o registryOptions) string {
	t.Helper()
	s := httptest.NewServer(newRegistry(store, o))
	t.Cleanup(s.Close)
	return s.URL + "/v2/"
}

func pushBlob(t *testing.T, base, repo, contents string) {
	t.Helper()
	status, _, _ := do(t, "POST", base+repo+"/blobs/uploads/?digest="+digest(contents), contents)
	want(t, "push blob", status, http.StatusCreated)
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// pushArtifact pushes a manifest with the empty configuration and returns its digest.
func pushArtifact(t *testing.T, base, repo, artifactType, subject string) (string, http.Header) {
	t.Helper()
	pushBlob(t, base, repo, "{}")
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]`,
		ociManifest, artifactType, digest("{}"))
	if subject != "" {
		m += fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":1}`, ociManifest, subject)
	}
	m += "}"
	status, header, body := do(t, "PUT", base+repo+"/manifests/"+digest(m), m, "Content-Type", ociManifest)
	if status != http.StatusCreated {
		t.Fatalf("push manifest: %d %s", status, body)
	}
	return digest(m), header
}

func referrers(t *testing.T, body string) (types []string) {
	t.Helper()
	var index struct {
		Manifests []struct{ ArtifactType string }
	}
	if err := json.Unmarshal([]byte(body), &index); err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		types = append(types, m.ArtifactType)
	}
	return types
}

func TestReferrers(t *testing.T) {
	base := serveTest(t, &blobStore{}, registryOptions{referrers: true, page: 1})
	subject, _ := pushArtifact(t, base, "a/b", "test/subject", "")
	_, header := pushArtifact(t, base, "a/b", "test/one", subject)
	want(t, "OCI-Subject", header.Get("OCI-Subject"), subject)
	pushArtifact(t, base, "a/b", "test/two", subject)

	seen, next := 0, "a/b/referrers/"+subject
	for next != "" {
		status, header, body := do(t, "GET", base+next, "")
		want(t, "status", status, http.StatusOK)
		seen += len(referrers(t, body))
		link, _, _ := strings.Cut(header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "</v2/")
	}
	want(t, "referrers on all pages", seen, 2)

	_, header, body := do(t, "GET", base+"a/b/referrers/"+subject+"?artifactType=test/two", "")
	want(t, "filtered", fmt.Sprint(referrers(t, body)), "[test/two]")
	want(t, "header", header.Get("OCI-Filters-Applied"), "artifactType")

	status, _, body := do(t, "GET", base+"unknown/referrers/"+subject, "")
	want(t, "unknown repository", status, http.StatusOK)
	want(t, "its referrers", len(referrers(t, body)), 0)
}

func TestNoReferrers(t *testing.T) {
	base := serveTest(t, &blobStore{}, registryOptions{})
	subject, _ := pushArtifact(t, base, "a", "test/subject", "")
	_, header := pushArtifact(t, base, "a", "test/one", subject)
	want(t, "OCI-Subject", header.Get("OCI-Subject"), "")
	status, _, _ := do(t, "GET", base+"a/referrers/"+subject, "")
	want(t, "referrers API", status, http.StatusNotFound)
}

func TestBlobs(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "files": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			base := serveTest(t, &blobStore{dir: dir}, registryOptions{})
			blob := base + "a/blobs/" + digest("0123456789")
			status, _, _ := do(t, "POST", base+"a/blobs/uploads/?digest="+digest("other"), "0123456789")
			want(t, "wrong digest", status, http.StatusBadRequest)
			status, _, _ = do(t, "HEAD", blob, "")
			want(t, "before", status, http.StatusNotFound)

			_, header, _ := do(t, "POST", base+"a/blobs/uploads/", "")
			upload := strings.TrimSuffix(base, "/v2/") + header.Get("Location")
			status, _, _ = do(t, "PATCH", upload, "01234", "Content-Range", "0-4")
			want(t, "first chunk", status, http.StatusAccepted)
			status, _, _ = do(t, "PATCH", upload, "56789", "Content-Range", "6-10")
			want(t, "chunk out of order", status, http.StatusRequestedRangeNotSatisfiable)
			status, header, _ = do(t, "GET", upload, "")
			want(t, "upload status", fmt.Sprint(status, header.Get("Range")), "2040-4")
			status, header, _ = do(t, "PUT", upload+"?digest="+digest("0123456789"), "56789")
			want(t, "last chunk", status, http.StatusCreated)
			want(t, "location", header.Get("Location"), "/v2/a/blobs/"+digest("0123456789"))
			status, _, _ = do(t, "GET", upload, "")
			want(t, "finished upload", status, http.StatusNotFound)

			status, header, body := do(t, "GET", blob, "")
			want(t, "blob", body, "0123456789")
			want(t, "status", status, http.StatusOK)
			want(t, "type", header.Get("Content-Type"), "application/octet-stream")
			for r, part := range map[string]string{"bytes=7-": "789", "bytes=2-3": "23", "bytes=8-99": "89"} {
				status, _, body = do(t, "GET", blob, "", "Range", r)
				want(t, r, fmt.Sprint(status, body), "206"+part)
			}
			status, _, _ = do(t, "GET", blob, "", "Range", "bytes=10-")
			want(t, "range behind the end", status, http.StatusRequestedRangeNotSatisfiable)

			other := base + "b/blobs/" + digest("0123456789")
			status, _, _ = do(t, "HEAD", other, "")
			want(t, "other repository", status, http.StatusNotFound)
			mount := base + "b/blobs/uploads/?mount=" + digest("0123456789") + "&from="
			status, _, _ = do(t, "POST", mount+"c", "")
			want(t, "mount from where it is not", status, http.StatusAccepted)
			status, _, _ = do(t, "POST", mount+"a", "")
			want(t, "mount", status, http.StatusCreated)
			status, _, _ = do(t, "POST", base+"d/blobs/uploads/?mount="+digest("0123456789"), "")
			want(t, "mount from anywhere", status, http.StatusCreated)
			status, _, _ = do(t, "DELETE", blob, "")
			want(t, "delete", status, http.StatusAccepted)
			status, _, _ = do(t, "HEAD", blob, "")
			want(t, "deleted", status, http.StatusNotFound)
			_, _, body = do(t, "GET", other, "")
			want(t, "mounted", body, "0123456789")
		})
	}
}

func TestRefusals(t *testing.T) {
	base := serveTest(t, &blobStore{}, registryOptions{})
	manifest := fmt.Sprintf(`{"schemaVersion":2,"layers":[{"mediaType":"test/layer","digest":%q,"size":1}]}`, digest("x"))
	status, _, body := do(t, "PUT", base+"a/manifests/tag", manifest, "Content-Type", ociManifest)
	want(t, "missing layer", status, http.StatusNotFound)
	want(t, "code", strings.Contains(body, "MANIFEST_BLOB_UNKNOWN"), true)
	pushBlob(t, base, "a", "x")
	status, _, _ = do(t, "PUT", base+"a/manifests/"+digest("other"), manifest, "Content-Type", ociManifest)
	want(t, "wrong digest", status, http.StatusBadRequest)
	status, _, _ = do(t, "PUT", base+"a/manifests/tag", manifest, "Content-Type", ociManifest)
	want(t, "good manifest", status, http.StatusCreated)
	status, _, _ = do(t, "PUT", base+"a/manifests/big", strings.Repeat(" ", maxManifest+1), "Content-Type", ociManifest)
	want(t, "big manifest", status, http.StatusRequestEntityTooLarge)
	status, _, _ = do(t, "GET", base+"A/manifests/tag", "")
	want(t, "bad name", status, http.StatusBadRequest)
}

func TestAuth(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	serve := func(o authOptions) string {
		h, err := o.wrap(ok)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	const good, bad = "Basic dGVzdDp0ZXN0", "Basic dGVzdDp3cm9uZw=="

	basic := serve(authOptions{kind: "basic", user: "test", password: "test"})
	for auth, status := range map[string]int{"": 401, bad: 401, good: 200} {
		got, _, _ := do(t, "GET", basic+"/v2/", "", "Authorization", auth)
		want(t, "basic "+auth, got, status)
	}

	for _, anonymous := range []bool{false, true} {
		url := serve(authOptions{kind: "token", user: "test", password: "test", anonymousPull: anonymous})
		status, header, _ := do(t, "PUT", url+"/v2/a/b/manifests/tag", "")
		want(t, "no token", status, 401)
		want(t, "challenge", header.Get("WWW-Authenticate"), fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:a/b:pull,push"`, url))
		status, _, _ = do(t, "GET", url+"/token", "", "Authorization", bad)
		want(t, "wrong password", status, 401)
		for auth, push := range map[string]int{"": 401, good: 200} {
			status, _, body := do(t, "GET", url+"/token", "", "Authorization", auth)
			if auth == "" && !anonymous {
				want(t, "no password", status, 401)
				continue
			}
			var token struct{ Token string }
			if err := json.Unmarshal([]byte(body), &token); err != nil {
				t.Fatal(err)
			}
			status, _, _ = do(t, "GET", url+"/v2/a/tags/list", "", "Authorization", "Bearer "+token.Token)
			want(t, "pull", status, 200)
			status, _, _ = do(t, "PUT", url+"/v2/a/manifests/tag", "", "Authorization", "Bearer "+token.Token)
			want(t, "push "+auth, status, push)
		}
	}
	url := serve(authOptions{kind: "token", user: "test", password: "test", timedUser: "timed", timedLife: 2 * time.Second})
	timed := func(secret string, issued time.Time) string {
		seconds := strconv.FormatInt(issued.Unix(), 10)
		sum := sha256.Sum256([]byte(secret + seconds))
		login := "timed:" + seconds + "." + hex.EncodeToString(sum[:])
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
	}
	now := time.Now()
	for auth, status := range map[string]int{timed("test", now): 200, timed("wrong", now): 401, timed("test", now.Add(-3*time.Second)): 401, "Basic dGltZWQ6dGVzdA==": 401} {
		got, _, body := do(t, "GET", url+"/token", "", "Authorization", auth)
		want(t, "timed "+auth, got, status)
		if status != 200 {
			continue
		}
		var token struct{ Token string }
		if err := json.Unmarshal([]byte(body), &token); err != nil {
			t.Fatal(err)
		}
		got, _, _ = do(t, "GET", url+"/v2/a/tags/list", "", "Authorization", "Bearer "+token.Token)
		want(t, "its token", got, 200)
		time.Sleep(2100 * time.Millisecond)
		got, _, _ = do(t, "GET", url+"/v2/a/tags/list", "", "Authorization", "Bearer "+token.Token)
		want(t, "its token later", got, 401)
	}
	if _, err := (authOptions{kind: "magic"}).wrap(ok); err == nil {
		t.Error("unknown kind is accepted")
	}
}

func TestFailRules(t *testing.T) {
	for _, bad := range []string{"", "404 GET", "200 GET .", "x GET .", "404x0 GET .", "404 GET ("} {
		if (&failRules{}).Set(bad) == nil {
			t.Errorf("rule %q is accepted", bad)
		}
	}
	var f failRules
	for _, rule := range []string{"503x2 GET ^/a$", "429 * ^/b"} {
		if err := f.Set(rule); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(f.wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer s.Close()
	for i, status := range []int{503, 503, 200} {
		got, _, _ := do(t, "GET", s.URL+"/a", "")
		want(t, fmt.Sprint("a ", i), got, status)
	}
	got, _, _ := do(t, "PUT", s.URL+"/b/c", "")
	want(t, "b", got, 429)
}

// TestRun starts the whole program on a free port, with a log, and ends it both ways.
func TestRun(t *testing.T) {
	logFile := filepath.Join(t.TempDir(), "log")
	for _, untilEOF := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, closeIn := io.Pipe()
		out, stdout := io.Pipe()
		done := make(chan error, 1)
		args := []string{"-listen", "127.0.0.1:0", "-log", logFile}
		if untilEOF {
			args = append(args, "-until-eof")
		}
		go func() { done <- run(ctx, args, in, stdout) }()
		line, err := bufio.NewReader(out).ReadString('\n')
		address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
		if err != nil || !ok {
			t.Fatalf("first line %q, %v", line, err)
		}
		status, _, _ := do(t, "GET", "http://"+address+"/v2/a/tags/list?n=1", "", "Authorization", "Basic c2VjcmV0")
		want(t, "status", status, http.StatusNotFound)
		if untilEOF {
			_ = closeIn.Close()
		} else {
			cancel()
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	want(t, "lines", len(lines), 2)
	var l logLine
	if err := json.Unmarshal(lines[0], &l); err != nil {
		t.Fatal(err)
	}
	want(t, "age", l.Time.IsZero(), false)
	l.Time = logLine{}.Time
	want(t, "line", l, logLine{Method: "GET", Path: "/v2/a/tags/list", Query: "n=1", Status: 404, Authorization: true})
	want(t, "secret in the log", bytes.Contains(b, []byte("c2VjcmV0")), false)
}

func TestHeldRequestsWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hold")
	s := httptest.NewServer(hold(file, newRegistry(&blobStore{}, registryOptions{referrers: true})))
	t.Cleanup(s.Close)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("POST /v2/held/\nGET /v2/other/\n")
	status, _, _ := do(t, "GET", s.URL+"/v2/", "")
	want(t, "a request that no line names", status, 200)
	answers := make(chan int)
	go func() {
		status, _, _ := do(t, "POST", s.URL+"/v2/held/blobs/uploads/", "")
		answers <- status
	}()
	select {
	case status := <-answers:
		t.Fatalf("a held request was answered with %d", status)
	case <-time.After(200 * time.Millisecond):
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(t, "the held request, once it is let go", <-answers, 202)
}
