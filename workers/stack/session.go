package stack

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// sessionLife is how long a browser that came by a link may look around.
const sessionLife = 24 * time.Hour

// maxSessions bounds the sessions that are remembered; the oldest are forgotten.
const maxSessions = 256

// sessions lets a browser into the web UI that has once followed a link of
// esclab ui: the link's ticket is good for one session, which is a cookie.
type sessions struct {
	key    settings.Secret
	cookie string

	mu   sync.Mutex
	used map[string]time.Time // tickets, until they have expired anyway
	open map[string]time.Time // sessions, until they end
}

func newSessions(key settings.Secret, l net.Listener) *sessions {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// A browser sends a cookie to every port of a host, so stacks side by side
	// need names of their own.
	return &sessions{key: key, cookie: "esclab-" + port, used: map[string]time.Time{}, open: map[string]time.Time{}}
}

// demand answers whoever has no session, before anything of the UI is served.
func (s *sessions) demand(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		cookie, err := c.Cookie(s.cookie)
		known := err == nil && s.knows(cookie.Value)
		switch {
		case c.Request().URL.Path == connect.SessionPath:
			return s.begin(c, known)
		case known:
			return next(c)
		}
		return c.String(http.StatusUnauthorized, "This web UI opens by a link that \"esclab ui\" prints, once for each browser.\n")
	}
}

// begin turns a ticket into a session and leads to the page that was asked for.
// A browser that has a session needs no ticket.
func (s *sessions) begin(c echo.Context, known bool) error {
	c.Response().Header().Set("Referrer-Policy", "no-referrer")
	if known {
		return c.Redirect(http.StatusSeeOther, localPath(c.QueryParam("to")))
	}
	value, ok := s.redeem(c.QueryParam("ticket"))
	if !ok {
		return c.String(http.StatusUnauthorized, "This link was used before, or is too old. Let \"esclab ui\" print another.\n")
	}
	c.SetCookie(&http.Cookie{Name: s.cookie, Value: value, Path: "/", MaxAge: int(sessionLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return c.Redirect(http.StatusSeeOther, localPath(c.QueryParam("to")))
}

// localPath keeps a redirect on this host: path and query of to, nothing else.
func localPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return "/"
	}
	return (&url.URL{Path: "/" + strings.TrimLeft(u.Path, "/\\"), RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}

func (s *sessions) redeem(ticket string) (value string, ok bool) {
	now := time.Now()
	expires, ok := connect.CheckTicket(s.key, ticket, now)
	if !ok {
		return "", false
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return "", false
	}
	value = hex.EncodeToString(random)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range []map[string]time.Time{s.used, s.open} {
		for one, until := range all {
			if now.After(until) {
				delete(all, one)
			}
		}
	}
	if _, twice := s.used[ticket]; twice {
		return "", false
	}
	for len(s.open) >= maxSessions {
		oldest := ""
		for one, until := range s.open {
			if oldest == "" || until.Before(s.open[oldest]) {
				oldest = one
			}
		}
		delete(s.open, oldest)
	}
	s.used[ticket], s.open[value] = expires, now.Add(sessionLife)
	return value, true
}

func (s *sessions) knows(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.open[value]
	return ok && time.Now().Before(until)
}
