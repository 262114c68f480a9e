package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
)

// The most that a submission may be, in bytes.
const submissionLimit = 1 << 20

// A ctLog promises to log certificates, and does not.
type ctLog struct {
	key *ecdsa.PrivateKey
	id  [sha256.Size]byte
}

// serveLog adds what Fulcio asks of a log (RFC 6962, sections 4.1 and 4.2).
func serveLog(mux *http.ServeMux, key *ecdsa.PrivateKey) error {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	l := ctLog{key: key, id: sha256.Sum256(public)}
	mux.HandleFunc("POST /ct/v1/add-chain", l.add(ct.X509LogEntryType))
	mux.HandleFunc("POST /ct/v1/add-pre-chain", l.add(ct.PrecertLogEntryType))
	return nil
}

func (l ctLog) add(kind ct.LogEntryType) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request ct.AddChainRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, submissionLimit)).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response, err := l.promise(request.Chain, kind, uint64(time.Now().UnixMilli()))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, response)
	}
}

// promise signs an SCT for the first certificate of a chain.
func (l ctLog) promise(certificates [][]byte, kind ct.LogEntryType, timestamp uint64) (*ct.AddChainResponse, error) {
	chain := make([]ct.ASN1Cert, len(certificates))
	for i, certificate := range certificates {
		chain[i].Data = certificate
	}
	leaf, err := ct.MerkleTreeLeafFromRawChain(chain, kind, timestamp)
	if err != nil {
		return nil, err
	}
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: l.id}, Timestamp: timestamp}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: *leaf})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(input)
	raw, err := l.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	algorithm := cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA}
	signature, err := cttls.Marshal(cttls.DigitallySigned{Algorithm: algorithm, Signature: raw})
	if err != nil {
		return nil, err
	}
	return &ct.AddChainResponse{SCTVersion: ct.V1, ID: l.id[:], Timestamp: timestamp, Signature: signature}, nil
}
