package settings

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Secret is a value that prints as "***": convert it with string(s) where it
// is used.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString keeps the value out of %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText keeps the value out of JSON and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Credentials of an S3 account.
type Credentials struct {
	AccessKey    string
	SecretKey    Secret
	SessionToken Secret // of temporary credentials, else empty
}

// APIKey returns the key of api_key_file, else that of the environment variable
// that api_key_env names, "" where neither is set.
func (t Temporal) APIKey() (Secret, error) {
	if t.APIKeyFile != "" {
		return ReadKey("temporal.api_key_file", t.APIKeyFile)
	}
	if t.APIKeyEnv == "" {
		return "", nil
	}
	key := os.Getenv(t.APIKeyEnv)
	if key == "" {
		return "", fmt.Errorf("temporal.api_key_env: environment variable %s is not set: export it with the API key, or set temporal.api_key_file", t.APIKeyEnv)
	}
	return keyVariable("temporal.api_key_env", t.APIKeyEnv)
}

// keyVariable reads a key from an environment variable that holds nothing else;
// name is the setting's.
func keyVariable(name, variable string) (Secret, error) {
	key := os.Getenv(variable)
	if !oneWord(key) {
		return "", fmt.Errorf("%s: environment variable %s does not hold one key on one line, of ASCII characters and without blanks (a line break at its end?): export it anew", name, variable)
	}
	return Secret(key), nil
}

// ReadKey reads a key from a file that holds nothing else, mode 0600; name is what
// errors call it.
func ReadKey(name, path string) (Secret, error) {
	data, err := ReadSecretFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	key := strings.TrimSpace(string(data))
	if !oneWord(key) {
		return "", fmt.Errorf("%s: %s does not hold one key on one line, of ASCII characters and without blanks", name, path)
	}
	return Secret(key), nil
}

// oneWord says whether a key can stand in a header.
func oneWord(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// Credentials returns the S3 credentials: those of credentials_file, else
// those of the environment variables. Where neither of these is set there are
// none: the AWS default chain is asked.
func (c S3) Credentials() (Credentials, error) {
	if c.CredentialsFile != "" {
		return ReadCredentials(c.CredentialsFile)
	}
	if os.Getenv(c.AccessKeyEnv) == "" && os.Getenv(c.SecretKeyEnv) == "" {
		return Credentials{}, nil
	}
	if os.Getenv(c.AccessKeyEnv) == "" || os.Getenv(c.SecretKeyEnv) == "" {
		return Credentials{}, fmt.Errorf("s3: half of the credentials for %s: export both %s and %s, or set s3.credentials_file", c.Endpoint, c.AccessKeyEnv, c.SecretKeyEnv)
	}
	access, err1 := keyVariable("s3.access_key_env", c.AccessKeyEnv)
	secret, err2 := keyVariable("s3.secret_key_env", c.SecretKeyEnv)
	var token Secret
	var err3 error
	if c.AccessKeyEnv == "AWS_ACCESS_KEY_ID" && os.Getenv("AWS_SESSION_TOKEN") != "" {
		token, err3 = keyVariable("s3.access_key_env", "AWS_SESSION_TOKEN")
	}
	if err := cmp.Or(err1, err2, err3); err != nil {
		return Credentials{}, err
	}
	return Credentials{AccessKey: string(access), SecretKey: secret, SessionToken: token}, nil
}

// ReadCredentials reads the [default] profile of an AWS shared credentials
// file. The file must not be readable by group or others.
func ReadCredentials(path string) (Credentials, error) {
	data, err := ReadSecretFile(path)
	if err != nil {
		return Credentials{}, err
	}
	var cred Credentials
	profile := "default"
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			profile = strings.TrimSpace(strings.TrimSuffix(name, "]"))
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || profile != "default" || strings.HasPrefix(line, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			cred.AccessKey = value
		case "aws_secret_access_key":
			cred.SecretKey = Secret(value)
		case "aws_session_token":
			cred.SessionToken = Secret(value)
		}
	}
	if cred.AccessKey == "" || cred.SecretKey == "" {
		return Credentials{}, fmt.Errorf("%s: no aws_access_key_id and aws_secret_access_key under [default]", path)
	}
	if !oneWord(cred.AccessKey) || !oneWord(string(cred.SecretKey)) || cred.SessionToken != "" && !oneWord(string(cred.SessionToken)) {
		return Credentials{}, fmt.Errorf("%s: a key under [default] is not one word of ASCII characters", path)
	}
	return cred, nil
}

// ReadSecretFile reads a file that holds a secret and refuses one that group
// or others may read.
func ReadSecretFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %04o lets others read a secret: chmod 600 %s", path, mode, path)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errors.New("not a regular file"))
	}
	data, err := os.ReadFile(path)
	return bytes.TrimPrefix(data, []byte("\ufeff")), err // what editors put in front is no part of a key
}
