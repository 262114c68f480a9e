// Command sigstore-kms-testkms is a plug-in of Sigstore's KMS protocol v1 for tests: testkms://FILE is the private key in FILE (PKCS#8 in PEM).
//
// The documents are those of sigstore/sigstore, pkg/signature/kms/cliplugin/common/interface.go. Like a real KMS it signs the digest that
// it is given and looks at the message only if there is none.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	protocol = "v1"
	ecdsa256 = "ecdsa-sha2-256-nistp256"
	ecdsa384 = "ecdsa-sha2-384-nistp384"
	rsa2048  = "rsa-sign-pkcs1-2048-sha256"
)

type question struct {
	InitOptions struct {
		ProtocolVersion string      `json:"protocolVersion"`
		KeyResourceID   string      `json:"keyResourceID"`
		HashFunc        crypto.Hash `json:"hashFunc"`
	} `json:"initOptions"`
	MethodName string `json:"methodName"`
	CreateKey  struct {
		Algorithm string `json:"algorithm"`
	} `json:"createKey"`
	SignMessage struct {
		SignOptions struct {
			MessageOptions messageOptions `json:"messageOptions"`
		} `json:"signOptions"`
	} `json:"signMessage"`
	VerifySignature struct {
		Signature     []byte `json:"signature"`
		VerifyOptions struct {
			MessageOptions messageOptions `json:"messageOptions"`
		} `json:"verifyOptions"`
	} `json:"verifySignature"`
}

type messageOptions struct {
	Digest   []byte       `json:"digest"`
	HashFunc *crypto.Hash `json:"hashFunc"`
}

func main() {
	answer, err := answer(os.Args[1:], os.Stdin)
	if err != nil {
		answer = map[string]any{"errorMessage": err.Error()}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}

func answer(args []string, message io.Reader) (map[string]any, error) {
	var q question
	if len(args) != 2 || args[0] != protocol {
		return nil, fmt.Errorf("want %s and a JSON document, have %d arguments", protocol, len(args))
	}
	if err := json.Unmarshal([]byte(args[1]), &q); err != nil {
		return nil, err
	}
	file := q.InitOptions.KeyResourceID
	switch q.MethodName {
	case "defaultAlgorithm":
		return result(q, "defaultAlgorithm", ecdsa256), nil
	case "supportedAlgorithms":
		return result(q, "supportedAlgorithms", []string{ecdsa256, ecdsa384, rsa2048, "ed25519"}), nil
	case "createKey":
		key, err := create(file, q.CreateKey.Algorithm)
		return withPublicKey(q, key, err)
	case "publicKey":
		key, err := load(file)
		return withPublicKey(q, key, err)
	case "signMessage":
		key, err := load(file)
		if err != nil {
			return nil, err
		}
		hash, digest, err := digestOf(key, q, q.SignMessage.SignOptions.MessageOptions, message)
		if err != nil {
			return nil, err
		}
		signature, err := key.Sign(rand.Reader, digest, hash)
		return result(q, "signature", signature), err
	case "verifySignature":
		key, err := load(file)
		if err != nil {
			return nil, err
		}
		hash, digest, err := digestOf(key, q, q.VerifySignature.VerifyOptions.MessageOptions, message)
		if err != nil {
			return nil, err
		}
		return map[string]any{q.MethodName: map[string]any{}}, verify(key.Public(), hash, digest, q.VerifySignature.Signature)
	default:
		return nil, fmt.Errorf("unknown method %q", q.MethodName)
	}
}

func result(q question, name string, value any) map[string]any {
	return map[string]any{q.MethodName: map[string]any{name: value}}
}

func withPublicKey(q question, key crypto.Signer, err error) (map[string]any, error) {
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return result(q, "publicKeyPEM", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// digestOf returns what a key signs, and its hash: of Ed25519 the message itself.
func digestOf(key crypto.Signer, q question, options messageOptions, message io.Reader) (crypto.Hash, []byte, error) {
	if _, ok := key.(ed25519.PrivateKey); ok {
		whole, err := io.ReadAll(message)
		return 0, whole, err
	}
	hash := hashFor(key, q.InitOptions.HashFunc)
	if options.HashFunc != nil {
		hash = *options.HashFunc
	}
	if !hash.Available() {
		return 0, nil, fmt.Errorf("hash function %d is not available", hash)
	}
	if options.Digest == nil {
		hasher := hash.New()
		_, err := io.Copy(hasher, message)
		return hash, hasher.Sum(nil), err
	}
	if len(options.Digest) != hash.Size() {
		return 0, nil, fmt.Errorf("a digest of %d bytes is none of %v", len(options.Digest), hash)
	}
	return hash, options.Digest, nil
}

// hashFor is the hash that a KMS ties to the key. cosign names SHA-256 for every key, and hands over a digest of this kind.
func hashFor(key crypto.Signer, asked crypto.Hash) crypto.Hash {
	pair, ok := key.(*ecdsa.PrivateKey)
	switch {
	case ok && pair.Curve == elliptic.P384():
		return crypto.SHA384
	case ok && pair.Curve == elliptic.P521():
		return crypto.SHA512
	default:
		return asked
	}
}

func verify(key crypto.PublicKey, hash crypto.Hash, digest, signature []byte) error {
	valid := false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest, signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
	case ed25519.PublicKey:
		valid = ed25519.Verify(key, digest, signature)
	}
	if !valid {
		return errors.New("the signature is not this key's")
	}
	return nil
}

func load(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

func create(file, algorithm string) (crypto.Signer, error) {
	key, err := generate(algorithm)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case ecdsa256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ecdsa384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case rsa2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fmt.Errorf("unknown algorithm %q", algorithm)
	}
}
