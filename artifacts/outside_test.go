package artifacts_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// reseal gives a document that was changed the digest that it would have: the
// SHA-256 of its bytes with an empty digest.
func reseal(document string) []byte {
	const field = `"digest": "`
	at := strings.LastIndex(document, field) + len(field)
	before, after := document[:at], document[at+2*sha256.Size:]
	sum := sha256.Sum256([]byte(before + after))
	return []byte(before + hex.EncodeToString(sum[:]) + after)
}

// A manifest that somebody with access to the bucket has written himself, with
// a right digest, cannot lead a reader out of its directory: it is damaged.
func TestManifestsCannotNameOutside(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	ref := w.blob(t, "x")
	w.commit(t, artifacts.Manifest{Kind: "sft", Stage: "sft/vm", Files: map[string]artifacts.Ref{"file": ref}})
	good := string(storetest.Read(t, w.Backend, manifestKey()))
	storetest.Write(t, w.Backend, manifestKey(), reseal(strings.Replace(good, `"file"`, `"other"`, 1)))
	if _, err := w.Lookup(t.Context(), fingerprint("stage")); err != nil {
		t.Fatalf("a file of another name: %v, want a manifest that is whole", err)
	}
	for what, change := range map[string][2]string{
		"above":            {`"file"`, `"../out"`},
		"absolute":         {`"file"`, `"/etc/passwd"`},
		"above, later":     {`"file"`, `"a/../../b"`},
		"the parent":       {`"file"`, `".."`},
		"no name":          {`"file"`, `""`},
		"a blob elsewhere": {ref.Key, "stages/other"},
	} {
		if !strings.Contains(good, change[0]) {
			t.Fatalf("the manifest does not contain %s:\n%s", change[0], good)
		}
		storetest.Write(t, w.Backend, manifestKey(), reseal(strings.Replace(good, change[0], change[1], 1)))
		_, err := w.Lookup(t.Context(), fingerprint("stage"))
		if wantErr(t, err, artifacts.ErrDamaged); err != nil && strings.Contains(err.Error(), "digest") {
			t.Errorf("%s: %v, want an error about the name, not the digest", what, err)
		}
	}
}
