package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	keyID         = "standin"
	tokenAudience = "sigstore"
	tokenLife     = 10 * time.Minute
)

var encoding = base64.RawURLEncoding

// serveIssuers adds the issuers. Any NAME is one; all share one key.
func serveIssuers(mux *http.ServeMux, base string, key *ecdsa.PrivateKey) error {
	point, err := key.PublicKey.Bytes() // 4, then X and Y
	if err != nil {
		return err
	}
	keys := map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": keyID,
		"x": encoding.EncodeToString(point[1:33]), "y": encoding.EncodeToString(point[33:]),
	}}}
	mux.HandleFunc("GET /oidc/{name}/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		reply(w, discovery(issuer(base, r)))
	})
	mux.HandleFunc("GET /oidc/{name}/keys", func(w http.ResponseWriter, _ *http.Request) { reply(w, keys) })
	mux.HandleFunc("GET /oidc/{name}/token", func(w http.ResponseWriter, r *http.Request) {
		token, err := mint(key, claims(issuer(base, r), r.URL.Query(), time.Now()))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(token))
	})
	return nil
}

func issuer(base string, r *http.Request) string {
	return base + "/oidc/" + r.PathValue("name")
}

func discovery(issuer string) map[string]any {
	return map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              issuer + "/keys",
		"authorization_endpoint":                issuer + "/auth",
		"token_endpoint":                        issuer + "/token",
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	}
}

// claims are the usual ones, replaced and completed by those of the query. Points in time are numbers, the rest are strings.
func claims(issuer string, query url.Values, now time.Time) map[string]any {
	claims := map[string]any{
		"iss": issuer, "aud": tokenAudience, "sub": "test",
		"iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(), "exp": now.Add(tokenLife).Unix(),
	}
	if query.Has("email") {
		claims["email_verified"] = true
	}
	for name, values := range query {
		claims[name] = value(name, values[0])
	}
	return claims
}

func value(name, text string) any {
	switch name {
	case "exp", "iat", "nbf":
		if number, err := strconv.ParseInt(text, 10, 64); err == nil {
			return number
		}
	case "email_verified":
		return text == "true"
	}
	return text
}

// mint signs a JWT.
func mint(key *ecdsa.PrivateKey, claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "ES256", "typ": "JWT", "kid": keyID})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := encoding.EncodeToString(header) + "." + encoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encoding.EncodeToString(signature), nil
}
