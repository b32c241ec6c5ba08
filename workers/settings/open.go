package settings

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Open lets other machines reach the Temporal and the S3 store of esclab up.
// There is no way to open them without TLS.
type Open struct {
	Listen   string    `yaml:"listen"`    // IP address; 0.0.0.0 or :: is every interface; empty: nobody else reaches them
	Ports    OpenPorts `yaml:"ports"`     //
	Cert     string    `yaml:"cert"`      // PEM certificate for the names by which others reach it
	Key      string    `yaml:"key"`       // PEM key of it, mode 0600
	ClientCA string    `yaml:"client_ca"` // PEM file with the authorities whose certificates Temporal demands
}

// OpenPorts are the ports at Open.Listen. They differ from those on the
// loopback interface, which every interface includes.
type OpenPorts struct {
	Temporal Port `yaml:"temporal"`
	S3       Port `yaml:"s3"`
}

// Enabled says whether anything is opened.
func (o Open) Enabled() bool { return o.Listen != "" }

// Check says why the settings cannot be opened as they are, and what to set.
func (o Open) Check() error {
	if p := o.problem(); p != nil {
		return fmt.Errorf("%s: %s", p.key, p.message)
	}
	return nil
}

func (o Open) problem() *problem {
	const key = "embedded.open"
	if !o.Enabled() {
		return nil
	}
	if net.ParseIP(o.Listen) == nil {
		return &problem{key + ".listen", fmt.Sprintf("%q is not an IP address (for example 0.0.0.0, or that of one interface)", o.Listen)}
	}
	var missing []string
	for _, file := range []struct{ name, path string }{{"cert", o.Cert}, {"key", o.Key}, {"client_ca", o.ClientCA}} {
		if file.path == "" {
			missing = append(missing, file.name)
		}
	}
	if len(missing) > 0 {
		return &problem{key, fmt.Sprintf("%s not set: a key alone is too little on a network, where without TLS dialogues could be read on the wire and histories changed; "+
			"give a certificate, its key and the authority of the clients' certificates", strings.Join(missing, " and "))}
	}
	for name, port := range map[string]Port{"temporal": o.Ports.Temporal, "s3": o.Ports.S3} {
		if port < 0 || port > 65535 {
			return &problem{key + ".ports." + name, "a port is a number from 1 to 65535, or auto"}
		}
	}
	if o.Ports.Temporal != 0 && o.Ports.Temporal == o.Ports.S3 {
		return &problem{key + ".ports.s3", fmt.Sprintf("%d is also the port of temporal: give each its own", int(o.Ports.S3))}
	}
	return nil
}

// Presentable says whether an S3 store with these keys may be opened to other
// machines. Keys that programs come with and short ones are too weak for it.
func (c Credentials) Presentable() error {
	secret := string(c.SecretKey)
	if len(secret) < 20 || strings.EqualFold(secret, c.AccessKey) {
		return errors.New("the secret key is too easy to guess: it has to have 20 characters at least")
	}
	return nil
}
