// standins serves, on one address and without TLS, what a private Sigstore needs and no ready program gives to tests:
//
//   - OIDC issuers that believe everybody, at /oidc/NAME: discovery, keys, and GET /oidc/NAME/token?CLAIM=VALUE..., which mints a token
//     with the claims that the query names;
//   - a certificate transparency log that signs real SCTs for what Fulcio submits (/ct/v1/...) and keeps no tree;
//   - the tiles of a Rekor v2 log, read-only, at /tiles/ (-tiles DIR).
//
// Its keys lie in -dir, as oidc.key, ct.key and ct.pub, and are made when they are missing.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to serve on")
	name := flag.String("name", "", "`host` in the URLs of the issuers (default: that of -listen)")
	dir := flag.String("dir", ".", "`folder` of the keys")
	tiles := flag.String("tiles", "", "`folder` to serve at /tiles/")
	flag.Parse()
	log.Fatal(run(*listen, *name, *dir, *tiles))
}

func run(listen, name, dir, tiles string) error {
	oidcKey, err := loadOrMake(dir, "oidc")
	if err != nil {
		return err
	}
	ctKey, err := loadOrMake(dir, "ct")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	if name != "" {
		host = name
	}
	base := "http://" + net.JoinHostPort(host, port)
	handler, err := handler(base, tiles, oidcKey, ctKey)
	if err != nil {
		return err
	}
	fmt.Println("listening", base)
	server := http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	return server.Serve(listener)
}

func handler(base, tiles string, oidcKey, ctKey *ecdsa.PrivateKey) (http.Handler, error) {
	mux := http.NewServeMux()
	if err := serveIssuers(mux, base, oidcKey); err != nil {
		return nil, err
	}
	if err := serveLog(mux, ctKey); err != nil {
		return nil, err
	}
	if tiles != "" {
		mux.Handle("GET /tiles/", http.StripPrefix("/tiles/", http.FileServer(http.Dir(tiles))))
	}
	return mux, nil
}

// loadOrMake reads dir/name.key, or makes it and dir/name.pub: P-256, PKCS#8 and SPKI in PEM.
func loadOrMake(dir, name string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, name+".key")
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path, filepath.Join(dir, name+".pub"))
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ecdsaKey, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return ecdsaKey, nil
}

func makeKey(path, publicPath string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return nil, err
	}
	return key, os.WriteFile(publicPath, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
}

func reply(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(document); err != nil {
		log.Print(err)
	}
}
