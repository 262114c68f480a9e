package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobStore keeps blobs in memory or, when dir is set, in files. Unlike the library's own stores it knows which repository
// has which blob: a client that forgets to upload or mount one is found out. The zero value is ready to use.
type blobStore struct {
	dir string

	mu     sync.RWMutex
	sizes  map[string]map[v1.Hash]int64 // repository -> blob -> size
	memory map[v1.Hash][]byte           // contents, when dir is empty
}

// The library calls the store through these interfaces, and passes it contents that end in an error when they do not match
// their digest.
var (
	_ registry.BlobHandler       = (*blobStore)(nil)
	_ registry.BlobStatHandler   = (*blobStore)(nil)
	_ registry.BlobPutHandler    = (*blobStore)(nil)
	_ registry.BlobDeleteHandler = (*blobStore)(nil)
)

// repository corrects the library's notion of the repository's name, which at the end of an upload is "NAME/blobs".
func repository(name string) string { return strings.TrimSuffix(name, "/blobs") }

func (s *blobStore) path(h v1.Hash) string { return filepath.Join(s.dir, h.Algorithm+"-"+h.Hex) }

// Stat returns the size of a blob.
func (s *blobStore) Stat(_ context.Context, repo string, h v1.Hash) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	size, ok := s.sizes[repository(repo)][h]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return size, nil
}

// memoryBlob makes a reader of contents in memory what the library can serve ranges of.
type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error { return nil }

// Get opens a blob.
func (s *blobStore) Get(ctx context.Context, repo string, h v1.Hash) (io.ReadCloser, error) {
	if _, err := s.Stat(ctx, repo, h); err != nil {
		return nil, err
	}
	if s.dir != "" {
		return os.Open(s.path(h))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return memoryBlob{bytes.NewReader(s.memory[h])}, nil
}

// Put stores a blob.
func (s *blobStore) Put(_ context.Context, repo string, h v1.Hash, contents io.ReadCloser) error {
	defer contents.Close()
	if s.dir != "" {
		size, err := s.write(h, contents)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.add(repo, h, size)
		return nil
	}
	b, err := io.ReadAll(contents)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory == nil {
		s.memory = map[v1.Hash][]byte{}
	}
	s.memory[h] = b
	s.add(repo, h, int64(len(b)))
	return nil
}

// write stores contents in the file of h, which appears only when it is complete.
func (s *blobStore) write(h v1.Hash, contents io.Reader) (int64, error) {
	f, err := os.CreateTemp(s.dir, "upload-*")
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(f, contents)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.path(h))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return 0, err
	}
	return size, nil
}

// add records that a repository has a blob; the caller holds the lock.
func (s *blobStore) add(repo string, h v1.Hash, size int64) {
	repo = repository(repo)
	if s.sizes == nil {
		s.sizes = map[string]map[v1.Hash]int64{}
	}
	if s.sizes[repo] == nil {
		s.sizes[repo] = map[v1.Hash]int64{}
	}
	s.sizes[repo][h] = size
}

// mount gives repository to a blob of repository from, or of any when that is empty, and tells whether it was there.
func (s *blobStore) mount(to, from string, h v1.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for repo, blobs := range s.sizes {
		if size, ok := blobs[h]; ok && (from == "" || from == repo) {
			s.add(to, h, size)
			return true
		}
	}
	return false
}

// Delete takes a blob from one repository; others that have it keep it.
func (s *blobStore) Delete(_ context.Context, repo string, h v1.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	repo = repository(repo)
	if _, ok := s.sizes[repo][h]; !ok {
		return registry.ErrNotFound
	}
	delete(s.sizes[repo], h)
	return nil
}
