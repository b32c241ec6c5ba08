package connect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/esclab/esclab/workers/settings"
)

// SessionPath is where the embedded web UI takes tickets.
const SessionPath = "/esclab-session"

// FilesPath is where the embedded web UI has the files of stages, each under its
// fingerprint: FilesPath + fingerprint + "/report.html".
const FilesPath = "/esclab-stages/"

// ticketLife is how long a link into the web UI waits to be followed.
const ticketLife = 10 * time.Minute

// A ticket is when it expires (8 bytes), a nonce (16 bytes) and the HMAC-SHA256
// of both by Temporal's key.
const ticketBody = 8 + 16

// newTicket makes a ticket that the holder of the key accepts until ticketLife
// after now.
func newTicket(key settings.Secret, now time.Time) (string, error) {
	body := make([]byte, ticketBody, ticketBody+sha256.Size)
	binary.BigEndian.PutUint64(body, uint64(now.Add(ticketLife).Unix()))
	if _, err := rand.Read(body[8:]); err != nil {
		return "", fmt.Errorf("ticket: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(body, sign(key, body)...)), nil
}

func sign(key settings.Secret, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte("web UI "+string(key)))
	mac.Write(body)
	return mac.Sum(nil)
}

// CheckTicket says until when a ticket is good, and whether it is at all: made
// with the key, and not expired. That it is used once is up to who takes it.
func CheckTicket(key settings.Secret, ticket string, now time.Time) (expires time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || len(raw) != ticketBody+sha256.Size || !hmac.Equal(raw[ticketBody:], sign(key, raw[:ticketBody])) {
		return time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
	return expires, now.Before(expires)
}

// Visit is the link by which a browser gets to a page of the web UI. For the
// embedded UI it has a ticket, and can be followed once; for an external one it
// is the address itself.
func (t Target) Visit(address string) (string, error) {
	page, ok := strings.CutPrefix(address, t.UI)
	if !t.embedded || t.Temporal.APIKey == "" || !ok {
		return address, nil
	}
	ticket, err := newTicket(t.Temporal.APIKey, time.Now())
	if err != nil {
		return "", err
	}
	return t.UI + SessionPath + "?" + url.Values{"ticket": {ticket}, "to": {page}}.Encode(), nil
}
