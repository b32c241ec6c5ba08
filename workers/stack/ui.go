package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/auth"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/cors"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	assets "github.com/temporalio/ui-server/v2/ui"

	"github.com/esclab/esclab/workers/stack/connect"
)

// webUI is Temporal's web UI.
type webUI struct {
	server *http.Server
	done   chan error
	files  files // what the store holds of stages
}

// startUI serves the web UI of the Temporal server whose internal frontend is at
// inside on l, to those who have a session.
//
// The handlers and their order are those of ui-server's own NewServer. That
// one opens its listener by itself and ends the process when it cannot, which
// is no way to report a busy port.
func startUI(l net.Listener, inside string, o temporalOptions) (*webUI, error) {
	provider, err := config.NewConfigProviderWithRefresh(&config.Config{
		TemporalGRPCAddress: inside,
		TLS:                 o.mesh.ui(),
		Host:                loopback,
		EnableUI:            true,
		DefaultNamespace:    o.namespace,
		CORS:                config.CORS{CookieInsecure: true}, // plain HTTP on loopback
		HideLogs:            true,
		DisableNewsFetch:    true,
	})
	if err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}

	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	forwarded := []string{auth.AuthorizationExtrasHeader, "Caller-Type"}
	e.Use(middleware.Recover(), middleware.Gzip())
	e.Pre(loopbackOnly, newSessions(o.key, l).demand)
	e.Use(cors.CORSMiddleware(cors.CORSConfig{
		AllowHeaders: append([]string{echo.HeaderOrigin, echo.HeaderContentType, echo.HeaderAccept,
			echo.HeaderXCSRFToken, echo.HeaderAuthorization}, forwarded...),
		AllowCredentials: true,
		ConfigProvider:   provider,
	}))
	e.Use(middleware.Secure(), csrf.EnsureTokenCookie(false))
	e.Use(middleware.CSRFWithConfig(csrf.MiddlewareConfig(provider, false)))
	e.Pre(route.PublicPath(""))
	route.SetHealthRoute(e)
	// It says by the standard logger that it has read the certificates.
	before := log.Writer()
	log.SetOutput(io.Discard)
	defer log.SetOutput(before)
	if err := route.SetAPIRoutes(e, provider, []api.Middleware{headers.WithForwardHeaders(forwarded)}); err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	all, err := assets.Assets()
	if err != nil {
		return nil, fmt.Errorf("ui: assets: %w", err)
	}
	local, err := fs.Sub(all, "local")
	if err != nil {
		return nil, fmt.Errorf("ui: assets: %w", err)
	}
	local, err = withViews(local, o.namespace, o.attributes, o.prefix)
	if err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	if err := route.SetUIRoutes(e, "", local, provider); err != nil {
		return nil, fmt.Errorf("ui: %w", err)
	}
	route.SetRenderRoute(e, "/")
	u := &webUI{
		server: &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan error, 1),
	}
	e.GET(connect.FilesPath+"*", u.files.serve)
	go func() { u.done <- u.server.Serve(l) }()
	return u, nil
}

// loopbackOnly refuses requests that name another host: a web page elsewhere
// could otherwise point its own name at 127.0.0.1 and read the UI's answers.
func loopbackOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		host := c.Request().Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return echo.NewHTTPError(http.StatusMisdirectedRequest, "this UI answers on the loopback interface only")
		}
		return next(c)
	}
}

// stop ends the UI; connections that are still open after a second are cut.
func (u *webUI) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := u.server.Shutdown(ctx); err != nil {
		u.server.Close()
	}
	if u.files.close != nil {
		u.files.close()
	}
	if err := <-u.done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("ui: %w", err)
	}
	return nil
}
