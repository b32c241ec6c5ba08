package openai

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// explanation is what a response says of an error.
type explanation struct {
	message string
	codes   []string // names of the error and of what it is about: code, type, param
	status  int      // where a code is an HTTP status, else 0
	failed  bool     // it says that it is an error
}

func (e explanation) String() string {
	return strings.Trim(strings.Join(e.codes, " ")+": "+e.message, ": ")
}

// maxSaid bounds the parts and the codes of an explanation: a server's list of
// errors can be as long as the request.
const maxSaid = 6

// explain reads a response as endpoints write errors: under "error", as an
// object or a string; flat; under "detail", as a string or a list of places; in
// a list; as JSON inside a string; with the cause below "metadata". What is no
// JSON is the message itself, without HTML's tags.
func explain(body []byte) explanation {
	var e explanation
	var v any
	if json.Unmarshal(body, &v) != nil {
		e.message = strings.TrimSpace(tag.ReplaceAllString(string(body), " "))
		return e
	}
	var parts []string
	e.walk(v, &parts, 0)
	if e.message = strings.Join(parts, "; "); e.message == "" && len(e.codes) == 0 {
		e.message = string(body)
	}
	return e
}

var tag = regexp.MustCompile(`(?s)<(style|script).*?</(style|script)>|<[^>]*>`)

// walk collects what a value says. Only these keys are read: others repeat the
// request, whose words would be taken for the server's.
func (e *explanation) walk(v any, parts *[]string, depth int) {
	if depth > 8 || len(*parts) >= maxSaid {
		return
	}
	switch v := v.(type) {
	case string:
		var inner any
		if s := strings.TrimSpace(v); strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[") {
			if json.Unmarshal([]byte(s), &inner) == nil {
				e.walk(inner, parts, depth+1)
				return
			}
		}
		if strings.TrimSpace(v) != "" && !slices.Contains(*parts, v) {
			*parts = append(*parts, v)
		}
	case []any:
		for _, item := range v {
			e.walk(item, parts, depth+1)
		}
	case map[string]any:
		for _, key := range []string{"code", "error_code", "status_code", "status", "type", "error_type", "param"} {
			switch code := v[key].(type) {
			case float64:
				if code >= 400 && code < 600 {
					e.status = int(code)
				}
			case string:
				if code != "" && len(e.codes) < maxSaid && !slices.Contains(e.codes, code) {
					e.codes = append(e.codes, code)
				}
			}
		}
		if place, ok := v["loc"].([]any); ok { // FastAPI's, of one field
			var at []string
			for _, p := range place {
				at = append(at, fmt.Sprint(p))
			}
			if s := fmt.Sprintf("%s: %v", strings.Join(at, "."), v["msg"]); !slices.Contains(*parts, s) {
				*parts = append(*parts, s)
			}
			return
		}
		e.failed = e.failed || v["object"] == "error"
		for _, key := range []string{"error", "errors", "detail", "base_resp", "message", "Message", "msg", "error_description", "error_msg", "error_message",
			"status_msg", "metadata", "raw", "choices"} {
			if inner, ok := v[key]; ok {
				e.failed = e.failed || inner != nil && slices.Contains(saysError, key)
				e.walk(inner, parts, depth+1)
			}
		}
	}
}

// saysError are the keys that stand in no other response.
var saysError = []string{"error", "errors", "detail", "base_resp"}
