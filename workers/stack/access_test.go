package stack_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// newBrowser keeps cookies, and does not follow redirects.
func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// testWebUI: nothing is served without a session, and a session is begun by a
// link that works once.
func testWebUI(t *testing.T, s *stack.Stack, target connect.Target) {
	at := s.Info().UI
	browser, other := newBrowser(t), newBrowser(t)
	for _, page := range []string{"/", "/namespaces/default/workflows", "/api/v1/namespaces/default", "/healthz", "/api/v1/settings", "/esclab-session", "/esclab-session?ticket=AAAA&to=/"} {
		if body := get(t, browser, at+page, "", http.StatusUnauthorized); !strings.Contains(body, "esclab ui") {
			t.Errorf("%s says %q, want a hint at esclab ui", page, body)
		}
	}
	visit := func(page string) string {
		link, err := target.Visit(at + page)
		if err != nil || !strings.HasPrefix(link, at+connect.SessionPath+"?") || strings.Contains(link, string(target.Temporal.APIKey)) {
			t.Fatalf("link %s, %v; want one with a ticket and without the key", link, err)
		}
		return link
	}
	link := visit("/namespaces/default/workflows?query=a%20b")
	get(t, browser, link, "evil.example.org", http.StatusMisdirectedRequest)
	answer, err := browser.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if to := answer.Header.Get("Location"); answer.StatusCode != http.StatusSeeOther || to != "/namespaces/default/workflows?query=a%20b" {
		t.Errorf("the link answers %d and leads to %q", answer.StatusCode, to)
	}
	if cookie := answer.Header.Get("Set-Cookie"); !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("the cookie is %q, want HttpOnly and SameSite", cookie)
	}
	get(t, other, link, "", http.StatusUnauthorized) // used
	get(t, browser, link, "", http.StatusSeeOther)
	changed := []byte(visit("/"))
	i := bytes.Index(changed, []byte("ticket=")) + len("ticket=") + 3
	if changed[i] == 'A' {
		changed[i] = 'B'
	} else {
		changed[i] = 'A'
	}
	get(t, other, string(changed), "", http.StatusUnauthorized)

	// The page runs the script that fills a first visit: its policy names the digest.
	page := get(t, browser, at+"/namespaces/default/workflows", "", http.StatusOK)
	_, script, _ := strings.Cut(page, "<script>((defaults)")
	script, _, found := strings.Cut(script, "</script>")
	digest := sha256.Sum256([]byte("((defaults)" + script))
	if allowed := "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"; !found || !strings.Contains(page, allowed) {
		t.Errorf("the page has no first visit that its policy allows as %s: %.3000s", allowed, page)
	}
	for _, want := range []string{`["namespace-workflow-table-columns","default",[{"label":"Status"}`, `{"label":"RougeL"}`, `"name":"Vanilla beside decoupled"`, `"query":"Verdict = 'regression'"`} {
		if !strings.Contains(strings.ReplaceAll(script, `\u0027`, "'"), want) {
			t.Errorf("the first visit does not fill in %s: %s", want, script)
		}
	}
	testFiles(t, s, browser, at+connect.FilesPath)
	get(t, other, at+connect.FilesPath, "", http.StatusUnauthorized)
	// The UI's own API goes through to the server.
	if body := get(t, browser, at+"/api/v1/namespaces/default", "", http.StatusOK); !strings.Contains(body, `"default"`) {
		t.Errorf("no namespace: %.200s", body)
	}
	get(t, browser, at+"/api/v1/namespaces", "evil.example.org", http.StatusMisdirectedRequest)
	// A session is no way around the UI's own protection against requests that
	// other pages have the browser send.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/api/v1/namespaces/default/workflows/x", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	if answer, err = browser.Do(request); err != nil || answer.StatusCode < 400 || answer.StatusCode >= 500 {
		t.Fatalf("a request without a CSRF token: %v, %v; want that it is refused", answer, err)
	}
	answer.Body.Close()
	for _, to := range []string{"//evil.example.org/x", "https://evil.example.org/x", "/\\evil.example.org", "javascript:alert(1)", ""} {
		answer, err := browser.Get(at + connect.SessionPath + "?" + url.Values{"to": {to}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if u, err := answer.Location(); err != nil || u.Host != strings.TrimPrefix(at, "http://") {
			t.Errorf("to %q leads to %v, %v; want this host", to, u, err)
		}
	}
}

// testAccess: every port of the server answers nobody who lacks what only the
// data directory and the process have.
func testAccess(t *testing.T, s *stack.Stack, dir string) {
	key, err := os.ReadFile(filepath.Join(dir, "temporal-key"))
	if err != nil {
		t.Fatal(err)
	}
	right := "Bearer " + strings.TrimSpace(string(key))
	try := func(address, authorization string) error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if authorization != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
		}
		_, err = workflowservice.NewWorkflowServiceClient(conn).ListNamespaces(ctx, &workflowservice.ListNamespacesRequest{})
		return err
	}
	if err := try(s.Info().Temporal, right); err != nil {
		t.Errorf("with the key: %v", err)
	}
	for _, wrong := range []string{"", "Bearer ", "Bearer wrong", strings.TrimPrefix(right, "Bearer "), right + "x", strings.ToLower(right)} {
		if err := try(s.Info().Temporal, wrong); status.Code(err) != codes.PermissionDenied {
			t.Errorf("authorization %.12q…: %v, want PermissionDenied", wrong, err)
		}
	}
	ours := map[string]bool{s.Info().Temporal: true, strings.TrimPrefix(s.Info().UI, "http://"): true, strings.TrimPrefix(s.S3().Endpoint, "http://"): true}
	internal := 0
	for _, address := range listening(t) {
		if ours[address] {
			continue
		}
		internal++
		if err := try(address, right); err == nil || status.Code(err) == codes.Unimplemented {
			t.Errorf("the internal port %s answers in plain text: %v", address, err)
		}
	}
	if internal < 4 {
		t.Errorf("%d internal ports were tried, want those of the server's services", internal)
	}
	target := resolve(t, dir)
	if c, embedded := connect.CheckAccess(t.Context(), target); !embedded || c.Status != connect.OK {
		t.Errorf("doctor says %+v of access, want ok", c)
	}
	target.Temporal.APIKey = "other"
	if _, err := connect.Dial(t.Context(), target.Temporal, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "temporal-key") {
		t.Errorf("another key: %v, want an error that names the file", err)
	}
}

// testFiles: a browser with a session sees what the store holds of a stage, and runs
// none of it.
func testFiles(t *testing.T, s *stack.Stack, browser *http.Client, at string) {
	t.Helper()
	p := s.S3()
	b, err := s3.Open(t.Context(), s3.Config{Bucket: p.Bucket, Endpoint: p.Endpoint, Region: p.Region, PathStyle: true,
		AccessKey: p.Credentials.AccessKey, SecretKey: string(p.Credentials.SecretKey)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	store, err := artifacts.New(b, artifacts.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := strings.Repeat("ab", 32)
	get(t, browser, at+fingerprint+"/", "", http.StatusNotFound)
	get(t, browser, at+"..%2f..%2fx/", "", http.StatusBadGateway)
	lease, err := store.Acquire(t.Context(), fingerprint, artifacts.Claim{Owner: "test"})
	if err != nil {
		t.Fatal(err)
	}
	m := artifacts.Manifest{Kind: "report", Stage: "report", Files: map[string]artifacts.Ref{}}
	for name, content := range map[string]string{"report.html": "<h1>it</h1>", "rows.jsonl": "{}"} {
		if m.Files[name], err = store.PutFunc(t.Context(), artifacts.BytesFile([]byte(content))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lease.Commit(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
	if body := get(t, browser, at+fingerprint+"/", "", http.StatusOK); !strings.Contains(body, `<a href="report.html">report.html</a>`) || !strings.Contains(body, "<h1>report</h1>") {
		t.Errorf("the list of files is %s, want the stage and its files", body)
	}
	get(t, browser, at+fingerprint+"/none", "", http.StatusNotFound)
	for name, kind := range map[string]string{"report.html": "text/html; charset=utf-8", "rows.jsonl": "text/plain; charset=UTF-8"} {
		answer, err := browser.Get(at + fingerprint + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		policy := answer.Header.Get("Content-Security-Policy")
		if got := answer.Header.Get("Content-Type"); got != kind || !strings.HasPrefix(policy, "sandbox ") || strings.Contains(policy, "script") {
			t.Errorf("%s is %s under %q, want %s, in a sandbox without scripts", name, got, policy, kind)
		}
	}
}
