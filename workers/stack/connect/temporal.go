package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"

	"github.com/esclab/esclab/workers/settings"
)

// Timeouts of a first contact: long enough for a far cluster, short enough for
// someone who waits at a terminal.
const (
	dialTimeout = 3 * time.Second
	callTimeout = 5 * time.Second
	// A new search attribute is usable once the server has renewed its cache of
	// namespaces.
	attributesTimeout = 15 * time.Second
)

// Temporal is how to reach a Temporal service.
type Temporal struct {
	Address   string // host:port
	Namespace string
	TLS       *tls.Config // nil: plain text
	APIKey    settings.Secret
	KeyFile   string // of an embedded Temporal, for messages
	// APIKeyFile is where APIKey was read from, "" for the environment: it may be
	// renewed while a process runs.
	APIKeyFile string
}

// external reads the TLS files and the API key of an external service.
func external(s settings.Temporal) (Temporal, error) {
	t := Temporal{Address: s.Address, Namespace: s.Namespace, APIKeyFile: s.APIKeyFile}
	var err error
	if t.APIKey, err = s.APIKey(); err != nil {
		return t, err
	}
	if s.TLS == nil {
		if t.APIKey != "" {
			// An API key is a bearer token and must not be sent in plain text.
			t.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		return t, nil
	}
	if s.TLS.Disabled {
		return t, nil
	}
	t.TLS, err = tlsConfig("temporal.tls", *s.TLS)
	return t, err
}

// tlsConfig reads the files of a TLS setting; key is its name, for errors. The
// client's certificate is read again for every connection.
func tlsConfig(key string, s settings.TLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("%s.ca: %w", key, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s.ca: %s holds no PEM certificate", key, s.CA)
		}
	}
	if s.Cert != "" {
		pair, err := clientCertificate(key, s)
		if err != nil {
			return nil, err
		}
		latest := newest[*tls.Certificate]{read: func() (*tls.Certificate, error) { return clientCertificate(key, s) }, last: pair}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return latest.get(), nil }
	}
	return c, nil
}

func clientCertificate(key string, s settings.TLS) (*tls.Certificate, error) {
	private, err := settings.ReadSecretFile(s.Key)
	if err != nil {
		return nil, fmt.Errorf("%s.key: %w", key, err)
	}
	cert, err := os.ReadFile(s.Cert)
	if err != nil {
		return nil, fmt.Errorf("%s.cert: %w", key, err)
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, fmt.Errorf("%s: %s and %s: %w", key, s.Cert, s.Key, err)
	}
	return &pair, nil
}

// newest reads a secret again each time. One that cannot be read, because it is just
// being replaced, say, is as it was last.
type newest[T any] struct {
	read func() (T, error)

	mu   sync.Mutex
	last T
}

func (n *newest[T]) get() T {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now, err := n.read(); err == nil {
		n.last = now
	}
	return n.last
}

// Dial connects to Temporal and makes sure that the namespace is there. Errors
// take seconds at most and are one line that names the address and the remedy.
// The caller closes the client. Each change is applied to the client's options
// before it connects.
func Dial(ctx context.Context, t Temporal, log zerolog.Logger, changes ...func(*client.Options)) (client.Client, error) {
	if err := t.reach(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	options := client.Options{
		HostPort:      t.Address,
		Namespace:     t.Namespace,
		Logger:        NewLogger(log),
		DataConverter: limited{converter.GetDefaultDataConverter(), maxPayload},
		ConnectionOptions: client.ConnectionOptions{TLS: t.TLS, TLSDisabled: t.TLS == nil, GetSystemInfoTimeout: callTimeout,
			DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(keepBeating)}},
	}
	switch {
	case t.APIKeyFile != "":
		key := newest[settings.Secret]{read: func() (settings.Secret, error) { return settings.ReadKey("temporal.api_key_file", t.APIKeyFile) }, last: t.APIKey}
		options.Credentials = client.NewAPIKeyDynamicCredentials(func(context.Context) (string, error) { return string(key.get()), nil })
	case t.APIKey != "":
		options.Credentials = client.NewAPIKeyStaticCredentials(string(t.APIKey))
	}
	for _, change := range changes {
		change(&options)
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, t.explain(err)
	}
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: t.Namespace})
	if err != nil {
		c.Close()
		return nil, t.explain(err)
	}
	return c, nil
}

// Realm names a namespace of a Temporal cluster such that no other has the name:
// two clusters may call a namespace the same, as all embedded ones do.
func Realm(ctx context.Context, c client.Client, namespace string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if err != nil {
		return "", fmt.Errorf("temporal: describe namespace %s: %w", namespace, err)
	}
	return fmt.Sprintf("%s/%s/%s", d.GetReplicationConfig().GetActiveClusterName(), namespace, d.GetNamespaceInfo().GetId()), nil
}

// reach opens and closes a connection, with the TLS handshake where there is
// one: gRPC would retry a refused connection or a bad certificate until its
// deadline and then report only the deadline.
func (t Temporal) reach(ctx context.Context) error {
	if os.Getenv("HTTPS_PROXY")+os.Getenv("https_proxy") != "" {
		return nil // gRPC goes through the proxy, a plain connection would not
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return problem(cause(err), "start the server there, or correct temporal.address", "temporal: cannot reach %s", t.Address)
	}
	defer conn.Close()
	if t.TLS == nil {
		return nil
	}
	config := t.TLS.Clone()
	config.NextProtos = []string{"h2"}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(t.Address)
	}
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return problem(err, "check temporal.tls (ca, cert, key, server_name)", "temporal: TLS handshake with %s failed", t.Address)
	}
	return nil
}

// explain names the remedy for an error of the service.
func (t Temporal) explain(err error) error {
	var missing *serviceerror.NamespaceNotFound
	var denied *serviceerror.PermissionDenied
	switch text := err.Error(); {
	case errors.As(err, &missing):
		return problem(nil, "create it (temporal operator namespace create -n "+t.Namespace+"), or correct temporal.namespace",
			"temporal: %s has no namespace %q", t.Address, t.Namespace)
	case t.KeyFile != "" && errors.As(err, &denied):
		return problem(err, "start the stack again: it was started with another "+t.KeyFile, "temporal: %s refused the key", t.Address)
	case errors.As(err, &denied) || strings.Contains(text, "Unauthenticated") || strings.Contains(text, "unauthorized"):
		return problem(err, "check the API key (temporal.api_key_env, temporal.api_key_file) and temporal.tls", "temporal: %s refused the credentials", t.Address)
	case t.TLS != nil:
		// A server that wants a client certificate ends the connection after
		// the handshake, which looks like many other things.
		return problem(err, "check temporal.tls (does it ask for cert and key?), or correct temporal.address", "temporal: %s ended the TLS connection", t.Address)
	case t.KeyFile != "" && errors.Is(err, context.DeadlineExceeded):
		return problem(err, "end the process that runs it, and start again; what is finished is in the store", "temporal: the embedded server at %s does not answer", t.Address)
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "error reading server preface"):
		return problem(err, "correct temporal.address, or set temporal.tls if it expects TLS", "temporal: %s does not answer as a Temporal server", t.Address)
	default:
		return problem(err, "correct temporal.address", "temporal: %s does not answer as a Temporal server", t.Address)
	}
}

// cause strips "dial tcp host:port:" from a network error, which the message
// names already.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// errNotVisible marks search attributes that were registered and are not
// served yet.
var errNotVisible = errors.New("not served yet")

// SearchAttributes registers what a namespace lacks of the attributes (name →
// type), as far as it has room and the credentials allow, and returns those
// that can be used then. The error says which cannot and what to do; the rest
// is returned beside it, and runs go on without those.
func SearchAttributes(ctx context.Context, c client.Client, namespace string, attributes map[string]string) (map[string]string, error) {
	added, wrong := EnsureSearchAttributes(ctx, c, namespace, attributes)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	have, err := listed(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	want, err := AttributeTypes(attributes)
	if err != nil {
		return nil, err
	}
	usable := make(map[string]string, len(attributes))
	for name, kind := range want {
		if have[name] == kind && !(errors.Is(wrong, errNotVisible) && slices.Contains(added, name)) {
			usable[name] = attributes[name]
		}
	}
	return usable, wrong
}

// EnsureSearchAttributes registers the attributes (name → type) that the
// namespace lacks and returns the names of those that it has registered,
// sorted. One that exists with another type is an error: Temporal cannot
// change a type. So is one that there is no room for. The others are
// registered all the same.
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string, attributes map[string]string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, attributesTimeout)
	defer cancel()
	have, err := listed(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	want, err := AttributeTypes(attributes)
	if err != nil {
		return nil, err
	}
	var missing []string
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch got, ok := have[name]; {
		case !ok:
			missing = append(missing, name)
		case got != want[name]:
			wrong = append(wrong, problem(nil, "rename it in search_attributes, or use another namespace",
				"temporal: search attribute %s of namespace %s is %s, settings say %s", name, namespace, got, want[name]))
		}
	}
	added, err := add(ctx, c, namespace, missing, want)
	if err != nil {
		wrong = append(wrong, err)
	}
	if len(added) > 0 {
		if err := visible(ctx, c, namespace, added); err != nil {
			wrong = append(wrong, err)
		}
	}
	return added, errors.Join(wrong...)
}

// listed gives the custom search attributes of a namespace. Where visibility is
// in SQL, the namespace itself tells: its fields are named by their types
// (Keyword03), its attributes are aliases of them. The server's own list is
// asked for elsewhere alone, because for each question it opens a connection to
// itself that it never closes.
func listed(ctx context.Context, c client.Client, namespace string) (map[string]enumspb.IndexedValueType, error) {
	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if err != nil {
		return nil, problem(err, "check the rights of the credentials", "temporal: cannot describe namespace %s", namespace)
	}
	if have, ok := byAlias(described.GetConfig().GetCustomSearchAttributeAliases()); ok {
		return have, nil
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, problem(err, "check the rights of the credentials", "temporal: cannot list the search attributes of namespace %s", namespace)
	}
	return have.GetCustomAttributes(), nil
}

// byAlias reads the types of attributes from the fields that they are aliases of;
// false where there are none, or fields that are named otherwise.
func byAlias(aliases map[string]string) (map[string]enumspb.IndexedValueType, bool) {
	have := make(map[string]enumspb.IndexedValueType, len(aliases))
	for field, name := range aliases {
		kind, err := enumspb.IndexedValueTypeFromString(strings.TrimRight(field, "0123456789"))
		if err != nil {
			return nil, false
		}
		have[name] = kind
	}
	return have, len(have) > 0
}

// add registers search attributes, all at once or, where that is refused, as
// many as there is room for. It returns those that are registered now.
func add(ctx context.Context, c client.Client, namespace string, names []string, types map[string]enumspb.IndexedValueType) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	register := func(names ...string) error {
		request := &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: map[string]enumspb.IndexedValueType{}}
		for _, name := range names {
			request.SearchAttributes[name] = types[name]
		}
		_, err := c.OperatorService().AddSearchAttributes(ctx, request)
		var exists *serviceerror.AlreadyExists
		if errors.As(err, &exists) {
			return nil
		}
		return err
	}
	err := register(names...)
	if err == nil {
		return names, nil
	}
	var added, refused []string
	var full *serviceerror.InvalidArgument
	if !errors.As(err, &full) {
		refused = names // no right to do it, or no answer
	} else {
		for _, name := range names {
			if one := register(name); one != nil {
				refused, err = append(refused, name), one
			} else {
				added = append(added, name)
			}
		}
	}
	if len(refused) == 0 {
		return added, nil
	}
	return added, problem(err, "add them yourself (temporal operator search-attribute create), or remove others to make room; runs go without them until then",
		"temporal: cannot add search attributes %s to namespace %s", strings.Join(refused, ", "), namespace)
}

// visible waits until the frontend accepts new search attributes: it reads
// the namespace's mapping every few seconds.
func visible(ctx context.Context, c client.Client, namespace string, names []string) error {
	request := &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: strings.Join(names, " IS NULL AND ") + " IS NULL"}
	for {
		_, err := c.CountWorkflow(ctx, request)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return problem(fmt.Errorf("%w: %w", errNotVisible, err), "run it again", "temporal: the new search attributes %s of namespace %s are not visible yet", strings.Join(names, ", "), namespace)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// AttributeTypes maps the type names of search_attributes to Temporal's.
func AttributeTypes(attributes map[string]string) (map[string]enumspb.IndexedValueType, error) {
	types := make(map[string]enumspb.IndexedValueType, len(attributes))
	for name, kind := range attributes {
		t, err := enumspb.IndexedValueTypeFromString(kind)
		if err != nil {
			return nil, fmt.Errorf("search attribute %s: %w", name, err)
		}
		types[name] = t
	}
	return types, nil
}
