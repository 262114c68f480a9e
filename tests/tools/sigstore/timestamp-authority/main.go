// timestamp-authority is Sigstore's, without what its own command adds: metrics on the fixed port 2112, where a second one on the
// same machine would end, and a look at time servers. It signs RFC 3161 timestamps with a key and a chain from files.
package main

import (
	"flag"
	"log"
	"net"
	"strconv"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/viper"
)

const (
	// Sigstore's own policy for timestamps.
	policy = "1.3.6.1.4.1.57264.2"
	// The longest that a request may take.
	timeout = 30 * time.Second
	// The most that a request may be, in bytes.
	requestLimit = 1 << 20
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8420", "`address` to serve on")
	key := flag.String("key", "", "`file` of the private key, PEM without a password")
	chain := flag.String("chain", "", "`file` of the certificates, PEM, the signer's first and the root last")
	flag.Parse()
	host, port, err := net.SplitHostPort(*listen)
	if err != nil {
		log.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		log.Fatal(err)
	}
	configure(*key, *chain)
	log.Fatal(server.NewRestAPIServer(host, number, []string{"http"}, false, timeout, timeout).Serve())
}

// configure says what the server takes from its command's flags otherwise.
func configure(key, chain string) {
	for name, value := range map[string]any{
		"timestamp-signer":         "file",
		"timestamp-signer-hash":    "sha256",
		"file-signer-key-path":     key,
		"certificate-chain-path":   chain,
		"enforce-intermediate-eku": true,
		"default-policy-oid":       policy,
		"accepted-policy-oids":     []string{policy},
		"max-request-body-size":    requestLimit,
	} {
		viper.Set(name, value)
	}
}
