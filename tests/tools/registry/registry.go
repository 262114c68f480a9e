package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest is the size above which a manifest is refused; the specification asks for 4 MiB at least.
const maxManifest = 4 << 20

type registryOptions struct {
	referrers bool // serve the referrers API
	page      int  // referrers on one page, 0: all
}

// newRegistry adds to the library's registry what version 1.1 of the specification asks for and what real registries
// check.
func newRegistry(store *blobStore, o registryOptions) http.Handler {
	return &ociRegistry{
		registryOptions: o,
		store:           store,
		library: registry.New(
			registry.WithBlobHandler(store),
			registry.WithReferrersSupport(o.referrers),
			registry.Logger(log.New(io.Discard, "", 0)),
		),
	}
}

type ociRegistry struct {
	registryOptions
	store   *blobStore
	library http.Handler
	uploads sync.Map // path of an upload under way -> range received, as in the Range header
}

var (
	// endpoint splits a path into repository, kind and the rest: a digest, a tag, an upload.
	endpoint = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|blobs/uploads|tags|referrers)/([^/]*)$`)
	// validName is the specification's expression for names of repositories.
	validName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	// byteRange is a range with a start; the end may be missing.
	byteRange = regexp.MustCompile(`^bytes=(\d+)-(\d*)$`)
)

func (g *ociRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := endpoint.FindStringSubmatch(r.URL.Path)
	if m == nil {
		g.library.ServeHTTP(&completingWriter{ResponseWriter: w}, r)
		return
	}
	repo, kind, target := m[1], m[2], m[3]
	query := r.URL.Query()
	cw := &completingWriter{ResponseWriter: w, blob: kind == "blobs"}
	switch {
	case !validName.MatchString(repo):
		sendError(w, http.StatusBadRequest, "NAME_INVALID", fmt.Sprintf("invalid repository name %q", repo))
	case kind == "manifests" && r.Method == http.MethodPut:
		cw.location = r.URL.Path
		g.putManifest(cw, r, repo, target)
	case kind == "referrers" && g.referrers && r.Method == http.MethodGet:
		g.listReferrers(w, r, repo)
	case kind == "blobs/uploads" && target == "" && r.Method == http.MethodPost:
		cw.location = "/v2/" + repo + "/blobs/" + query.Get("digest")
		g.startUpload(cw, r, repo, query)
	case kind == "blobs/uploads" && target != "":
		cw.location = "/v2/" + repo + "/blobs/" + query.Get("digest")
		g.continueUpload(cw, r)
	case kind == "blobs" && r.Method == http.MethodGet && r.Header.Get("Range") != "":
		g.closeRange(r, repo, target)
		g.library.ServeHTTP(cw, r)
	default:
		g.library.ServeHTTP(cw, r)
	}
}

// ask sends a request to the library and returns its answer.
func (g *ociRegistry) ask(method, path string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	g.library.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	return rec
}

// putManifest refuses a manifest that is not what its digest says or refers to blobs the repository does not have (the
// library itself looks for the manifests of an index), and sends the OCI-Subject header, which tells clients that the
// referrers API will list this manifest.
func (g *ociRegistry) putManifest(w http.ResponseWriter, r *http.Request, repo, target string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		sendError(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", err.Error())
		return
	}
	if strings.Contains(target, ":") {
		got, _, err := v1.SHA256(bytes.NewReader(body))
		if err != nil || got.String() != target {
			sendError(w, http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("%s is pushed as %s", got, target))
			return
		}
	}
	var m struct {
		Subject *v1.Descriptor  `json:"subject"`
		Config  *v1.Descriptor  `json:"config"`
		Layers  []v1.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		sendError(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, d := range blobs {
		if _, err := g.store.Stat(r.Context(), repo, d.Digest); err != nil && d.MediaType.IsDistributable() {
			sendError(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", fmt.Sprintf("%s has no blob %s", repo, d.Digest))
			return
		}
	}
	if m.Subject != nil && g.referrers {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.library.ServeHTTP(w, r)
}

// listReferrers corrects the library's list: the artifactType of the manifest, where it has one, comes before the media
// type of its configuration; the filter is applied; an unknown repository has an empty list; pages.
func (g *ociRegistry) listReferrers(w http.ResponseWriter, r *http.Request, repo string) {
	list := g.ask(http.MethodGet, r.URL.Path)
	if list.Code != http.StatusOK && list.Code != http.StatusNotFound {
		w.WriteHeader(list.Code)
		_, _ = w.Write(list.Body.Bytes())
		return
	}
	var all v1.IndexManifest
	if list.Code == http.StatusOK {
		if err := json.Unmarshal(list.Body.Bytes(), &all); err != nil {
			sendError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
	}
	query := r.URL.Query()
	filter, last := query.Get("artifactType"), query.Get("last")
	out := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, d := range all.Manifests {
		var m struct {
			ArtifactType string `json:"artifactType"`
		}
		manifest := g.ask(http.MethodGet, "/v2/"+repo+"/manifests/"+d.Digest.String())
		if json.Unmarshal(manifest.Body.Bytes(), &m) == nil && m.ArtifactType != "" {
			d.ArtifactType = m.ArtifactType
		}
		if (filter == "" || filter == d.ArtifactType) && d.Digest.String() > last {
			out.Manifests = append(out.Manifests, d)
		}
	}
	sort.Slice(out.Manifests, func(i, j int) bool { return out.Manifests[i].Digest.String() < out.Manifests[j].Digest.String() })
	if g.page > 0 && len(out.Manifests) > g.page {
		out.Manifests = out.Manifests[:g.page]
		next := url.Values{"last": {out.Manifests[g.page-1].Digest.String()}}
		if filter != "" {
			next.Set("artifactType", filter)
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, next.Encode()))
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", string(types.OCIImageIndex))
	_ = json.NewEncoder(w).Encode(out)
}

// startUpload mounts the blob if it is asked to and another repository has it (the one named, or any); else the library
// takes it at once, if the request has it, or begins an upload.
func (g *ociRegistry) startUpload(w http.ResponseWriter, r *http.Request, repo string, query url.Values) {
	if digest := query.Get("mount"); digest != "" {
		h, err := v1.NewHash(digest)
		if err == nil && g.store.mount(repo, query.Get("from"), h) {
			w.Header().Set("Location", "/v2/"+repo+"/blobs/"+digest)
			w.Header().Set("Docker-Content-Digest", digest)
			w.WriteHeader(http.StatusCreated)
			return
		}
		r.URL.RawQuery = ""
	}
	g.library.ServeHTTP(w, r)
	if upload := w.Header().Get("Location"); strings.Contains(upload, "/blobs/uploads/") {
		g.uploads.Store(upload, "0-0")
	}
}

// continueUpload knows which uploads are under way, and tells how far they are.
func (g *ociRegistry) continueUpload(w http.ResponseWriter, r *http.Request) {
	received, ok := g.uploads.Load(r.URL.Path)
	if !ok {
		sendError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		return
	}
	if r.Method == http.MethodGet {
		w.Header().Set("Location", r.URL.Path)
		w.Header().Set("Range", received.(string))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	g.library.ServeHTTP(w, r)
	if now := w.Header().Get("Range"); now != "" {
		g.uploads.Store(r.URL.Path, now)
	}
	if w.Header().Get("Docker-Content-Digest") != "" { // complete
		g.uploads.Delete(r.URL.Path)
	}
}

// closeRange gives a range without an end, or with one behind the blob's, the end of the blob: the library insists on it.
// A range that starts behind the end stays as it is; the library refuses it.
func (g *ociRegistry) closeRange(r *http.Request, repo, digest string) {
	m := byteRange.FindStringSubmatch(r.Header.Get("Range"))
	h, err := v1.NewHash(digest)
	if m == nil || err != nil {
		return
	}
	size, err := g.store.Stat(r.Context(), repo, h)
	if err != nil {
		return
	}
	start, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || start >= size {
		return
	}
	if end, err := strconv.ParseInt(m[2], 10, 64); err != nil || end >= size {
		r.Header.Set("Range", fmt.Sprintf("bytes=%s-%d", m[1], size-1))
	}
}

// completingWriter adds the headers that the library leaves out.
type completingWriter struct {
	http.ResponseWriter
	blob     bool   // a success is a blob, not JSON
	location string // of what is created
}

func (w *completingWriter) WriteHeader(status int) {
	h := w.Header()
	if h.Get("Content-Type") == "" {
		if w.blob && status < http.StatusBadRequest {
			h.Set("Content-Type", "application/octet-stream")
		} else {
			h.Set("Content-Type", "application/json")
		}
	}
	if status == http.StatusCreated && h.Get("Location") == "" {
		h.Set("Location", w.location)
	}
	w.ResponseWriter.WriteHeader(status)
}

// sendError answers with one error in the specification's form.
func sendError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
