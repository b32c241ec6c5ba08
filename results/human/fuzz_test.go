package human

import (
	"bytes"
	"strings"
	"testing"

	"github.com/esclab/esclab/metrics"
)

// FuzzReadSheet: whatever a spreadsheet has made of a sheet, it is read or
// refused by name, and every answer is one of the three or missing.
func FuzzReadSheet(f *testing.F) {
	key := Key{Version: keyVersion, Systems: [2]System{{"demo", "a", "x"}, {"demo", "b", "y"}}, Asked: Questions(),
		Samples: []Placed{{ID: "s1-1", A: 0}, {ID: "s1-2", A: 1}}}
	head := "sample,conversation,reply A,reply B,fluency,professionalism,empathy,helpfulness,comment\r\n"
	for _, s := range []string{
		head + "s1-1,c,a,b,A,B,tie,,\r\ns1-2,c,a,b,b,a,=,Reply A,ok\r\n",
		strings.ReplaceAll(head, ",", ";") + "s1-1;c;a;b;A;B;tie;;\r\n",
		"\xff\xfes\x00a\x00", "\xfe\xff\x00s", "\ufeff" + head, head + "s1-1,\"", head + "s1-1,c,a,b,A\r\ns1-1,c,a,b,A\r\n", "", ",,,,", head + "other,c,a,b,maybe\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ratings, err := ReadSheet("fuzz.csv", "anna", bytes.NewReader(data), key)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "fuzz.csv: ") && !strings.Contains(err.Error(), "fuzz.csv: ") {
					t.Fatalf("a problem without the file's name: %q", line)
				}
			}
			return
		}
		if len(ratings.Answers) != len(key.Asked) {
			t.Fatalf("%d questions", len(ratings.Answers))
		}
		for _, answers := range ratings.Answers {
			for _, a := range answers {
				if a != Win && a != Tie && a != Loss && a != metrics.Missing {
					t.Fatalf("answer %d", a)
				}
			}
		}
	})
}

// FuzzReadKey: a key is whole or refused.
func FuzzReadKey(f *testing.F) {
	var whole bytes.Buffer
	if err := WriteKey(&whole, Key{Version: keyVersion, Seed: 3, Samples: []Placed{{ID: "a"}}, Asked: Questions()}); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	for _, s := range []string{"{}", "null", "[", `{"version":1,"samples":[{"id":"a","a":2}]}`, `{"version":1e3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ReadKey("key.json", bytes.NewReader(data))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "key.json: ") {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, p := range k.Samples {
			if p.A != 0 && p.A != 1 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
