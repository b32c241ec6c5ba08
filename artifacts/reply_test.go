package artifacts_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func TestReplies(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	ctx := t.Context()
	key, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	object := "cache/judge/ab/" + key + ".json"

	_, err := w.Reply(ctx, "judge", key)
	wantErr(t, err, artifacts.ErrNotFound)
	for _, bad := range []string{"", "AB", "../x"} {
		_, err := w.PutReply(ctx, "judge", bad, []byte("1"))
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
	if _, err := w.PutReply(ctx, "judge", key, []byte("{")); err == nil {
		t.Error("a value that is no JSON is kept")
	}

	// The value may have what looks like the end of the document.
	value := `{"digest":"x","reason":"a\n  \"digest\": \"b\"","n":1e3}`
	if got, err := w.PutReply(ctx, "judge", key, []byte(" "+value)); err != nil || string(got) != value {
		t.Fatalf("kept %s, %v; want %s", got, err, value)
	}
	if got, err := w.PutReply(ctx, "judge", key, []byte("2")); err != nil || string(got) != value {
		t.Errorf("the first does not stay: %s, %v", got, err)
	}
	if got, err := w.Reply(ctx, "judge", key); err != nil || string(got) != value {
		t.Errorf("found %s, %v; want %s", got, err, value)
	}
	if _, err := w.Reply(ctx, "other", key); err == nil {
		t.Error("spaces are one")
	}

	whole := storetest.Read(t, w.Backend, object)
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		storetest.Write(t, w.Backend, object, damaged)
		if _, err := w.Reply(ctx, "judge", key); err == nil {
			t.Fatalf("a flipped bit in byte %d goes unnoticed", i)
		}
	}
	storetest.Write(t, w.Backend, object, whole[:len(whole)/2])
	_, err = w.Reply(ctx, "judge", key)
	wantErr(t, err, artifacts.ErrCorrupt)
	if got, err := w.PutReply(ctx, "judge", key, []byte("3")); err != nil || string(got) != "3" {
		t.Errorf("a damaged reply is not replaced: %s, %v", got, err)
	}

	// An object in another's place is not taken for that one.
	storetest.Write(t, w.Backend, "cache/judge/cd/"+other+".json", whole)
	_, err = w.Reply(ctx, "judge", other)
	wantErr(t, err, artifacts.ErrCorrupt)
}

// Of many writers one wins, and all get its value.
func TestRepliesRace(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	key := strings.Repeat("0f", 32)
	got := make([]string, 16)
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			value, err := w.PutReply(t.Context(), "judge", key, fmt.Appendf(nil, "%d", i))
			if err != nil {
				t.Error(err)
			}
			got[i] = string(value)
		})
	}
	group.Wait()
	for _, v := range got {
		if v != got[0] {
			t.Fatalf("concurrent callers got %v, want all the same", got)
		}
	}
}
