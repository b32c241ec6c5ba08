package connect

import (
	"net"
	"net/url"

	"github.com/esclab/esclab/workers/settings"
)

// Exposed says what others on the way to a Temporal service can do, "" where the
// connection is encrypted or does not leave the machine.
func (t Temporal) Exposed() string {
	host, _, err := net.SplitHostPort(t.Address)
	if t.TLS != nil || err == nil && settings.LocalHost(host) {
		return ""
	}
	return "in plain text: parameters, paths and results can be read on the way, and runs started and changed"
}

// Exposed says what others on the way to an S3 service can do, "" where the
// connection is encrypted or does not leave the machine.
func (p S3) Exposed() string {
	u, err := url.Parse(p.Endpoint)
	if err == nil && (u.Scheme == "https" || settings.LocalHost(u.Hostname())) {
		return ""
	}
	return "in plain text: dialogues can be read on the way, and artifacts changed"
}
