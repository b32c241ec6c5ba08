package connect

import (
	"crypto/tls"
	"testing"
)

func TestExposed(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:7233": false, "[::1]:7233": false, "localhost:7233": false, "10.0.0.5:7233": true, "temporal.example.org:7233": true, "0.0.0.0:7233": true} {
		if got := (Temporal{Address: address}).Exposed() != ""; got != want {
			t.Errorf("%s: %v", address, got)
		}
		if got := (Temporal{Address: address, TLS: &tls.Config{}}).Exposed(); got != "" {
			t.Errorf("%s over TLS: %s", address, got)
		}
	}
	for endpoint, want := range map[string]bool{"http://127.0.0.1:9233": false, "http://localhost": false, "https://s3.example.org": false, "http://s3.example.org": true, "http://10.0.0.5:9000": true} {
		if got := (S3{Endpoint: endpoint}).Exposed() != ""; got != want {
			t.Errorf("%s: %v", endpoint, got)
		}
	}
}
