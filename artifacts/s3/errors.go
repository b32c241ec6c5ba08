package s3

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/esclab/esclab/artifacts"
)

// fail names the operation, bucket and key, and what to do; it translates not
// found.
func (b *Backend) fail(op, key string, err error) error {
	if status(err) == http.StatusNotFound {
		if code(err) == "NoSuchBucket" {
			err = fmt.Errorf("the bucket does not exist; create it: %w", err)
		} else {
			err = artifacts.ErrNotFound
		}
	}
	if b.keys != nil && expired(err) {
		b.keys.Invalidate() // the next request, and so the next attempt, reads them again
	}
	if do := Advice(err); do != "" {
		return fmt.Errorf("%s %s in s3://%s/%s: %w; %s", op, key, b.bucket, b.prefix, err, do)
	}
	return fmt.Errorf("%s %s in s3://%s/%s: %w", op, key, b.bucket, b.prefix, err)
}

// expired tells whether the service has refused credentials for their age.
func expired(err error) bool {
	switch code(err) {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return true
	}
	return false
}

// Advice says what to do about an error of the service, or "" where nothing is
// known. It is for errors that the bounded retries have not overcome.
func Advice(err error) string {
	c := code(err)
	if strings.Contains(c, "Malformed") && !strings.Contains(err.Error(), "region") {
		c = "InvalidAccessKeyId" // the header holds both
	}
	switch c {
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return "give the credentials the right to get, put, list and delete in this bucket (and to use the key, with SSE-KMS)"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException":
		return "correct the access key and the secret key"
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken":
		return "renew the credentials: s3.credentials_file is read again at once, for environment variables start the program again"
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return "set this machine's clock right (NTP), or the service's"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException", "InvalidLocationConstraint", "InvalidRegion":
		return "set s3.region to the bucket's" + regionOf(err) + ", and s3.endpoint to an address of that region"
	case "NoSuchBucket":
		return "create the bucket, or correct s3.bucket"
	case "BucketAlreadyExists":
		return "the bucket belongs to another account: choose another name as s3.bucket"
	case "InvalidBucketName":
		return "correct s3.bucket"
	case "SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "Throttling":
		return "the service limits requests or is overloaded: run fewer workers, or try again later"
	case "NoSpaceLeftOnDevice", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge":
		return "the store is full: free space there (esclab gc --dry-run shows what it would free), or raise its quota"
	case "BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "XAmzContentChecksumMismatch":
		return "the bytes were changed on their way to the service: check memory, network and proxies"
	case "NotImplemented", "InvalidArgument", "InvalidRequest":
		return "the service does not know something of this request: try s3.checksum when_required and s3.encryption none"
	}
	var answer *smithyhttp.ResponseError
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "this machine's disk is full: free space in the data directory"
	case errors.As(err, &answer) && answer.HTTPStatusCode()/100 == 3:
		return "set s3.region to the bucket's" + regionOf(err) + ", and correct s3.endpoint"
	case errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusForbidden:
		return "check the credentials, their rights, the bucket's name and the region"
	case errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusInsufficientStorage:
		return "the store is full: free space there (esclab gc --dry-run shows what it would free)"
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= 500:
		return "the service failed, and failed again when it was asked again: see its log, or try again later"
	}
	return ""
}

// regionOf is the bucket's region in parentheses, where the service names it.
func regionOf(err error) string {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		if region := answer.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
			return fmt.Sprintf(" (%q)", region)
		}
	}
	return ""
}

// encryption is what a put asks of the service.
type encryption struct {
	mode string // as in the header; "" for nothing
	key  *string
}

func newEncryption(mode, key string) (encryption, error) {
	e := encryption{}
	switch mode {
	case "", "none":
	case "sse-s3":
		e.mode = "AES256"
	case "sse-kms":
		e.mode = "aws:kms"
		if key != "" {
			e.key = aws.String(key)
		}
	default:
		return e, fmt.Errorf("encryption %q, want none, sse-s3 or sse-kms", mode)
	}
	if key != "" && mode != "sse-kms" {
		return e, fmt.Errorf("a KMS key with encryption %q; it goes with sse-kms", mode)
	}
	return e, nil
}

// check compares the service's answer with what was asked. A service that
// ignores the header stores plain text.
func (e encryption) check(answer string) error {
	if e.mode != "" && answer != e.mode {
		return fmt.Errorf("the service was asked to encrypt (%s) and answered %q: it may have stored this object in plain text; use a service that can, or s3.encryption none", e.mode, answer)
	}
	return nil
}

// status is the HTTP status of a failed request, 0 if it got no answer.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// code is the service's error code, empty if there is none.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
