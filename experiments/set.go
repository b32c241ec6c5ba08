package experiments

import (
	"maps"
	"reflect"
	"strings"

	"github.com/esclab/esclab/esc"
)

// overrides is the file name of problems that stem from an override.
const overrides = "--set"

// Set applies one override "path=value" to the experiment, for instance
// "dpo.roles.sp.beta=0.3", "paradigms=vanilla,decoupled" or
// "backbone.tiny=null". A "*" in the path stands for every key at its place:
// "dpo.roles.*.beta=0.3". The value is read as strictly as YAML; text is taken
// as it stands, and a list or a map may do without its brackets. Set does not validate,
// so that several overrides can be applied before Validate. After an error the
// experiment is unchanged.
func Set(exp *Experiment, assignment string) error {
	d := newDecoder(overrides)
	path, raw, ok := strings.Cut(assignment, "=")
	path = strings.TrimSpace(path)
	if !ok || path == "" {
		d.fail(0, "", "%q is not of the form path=value, like dpo.roles.sp.beta=0.3", assignment)
		return d.problems.err()
	}
	changed := exp.Clone()
	for _, one := range d.wildcards(path) {
		d.set(&changed, one, raw)
	}
	if err := d.problems.err(); err != nil {
		return err
	}
	*exp = changed
	return nil
}

// wildcards gives the paths that a path with "*" stands for; a path that leads
// nowhere stays as it is, for set to say so.
func (d *decoder) wildcards(path string) []string {
	before, after, found := strings.Cut("."+path+".", ".*.")
	if !found {
		return []string{path}
	}
	before = strings.TrimPrefix(before, ".")
	t := reflect.TypeFor[Experiment]()
	for _, key := range strings.FieldsFunc(before, func(r rune) bool { return r == '.' }) {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		field, ok := reflect.Value{}, false
		if t.Kind() == reflect.Struct {
			field, ok = fieldByKey(reflect.New(t).Elem(), key)
		}
		if !ok {
			return []string{path}
		}
		t = field.Type()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return []string{path}
	}
	var out []string
	for _, key := range keys(t) {
		out = append(out, d.wildcards(strings.TrimSuffix(join(join(before, key), after), "."))...)
	}
	return out
}

func (d *decoder) set(exp *Experiment, path, raw string) {
	v := valueOf(exp)
	at := ""
	for i, key := range strings.Split(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(newWithDefaults(v.Type().Elem()))
			}
			v = v.Elem()
		}
		if v.Kind() == reflect.Map { // its keys are free, and may have dots
			key = strings.SplitN(path, ".", i+1)[i]
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(raw))
			return
		}
		if v.Kind() != reflect.Struct {
			d.fail(0, path, "%s holds %s, no keys", at, wanted(v.Type()))
			return
		}
		field, ok := fieldByKey(v, key)
		if !ok {
			d.fail(0, at, "%s", unknownKey(at, key, v.Type()))
			return
		}
		v, at = field, join(at, key)
	}
	d.assign(path, raw, v)
}

func (d *decoder) assign(path, raw string, v reflect.Value) {
	if len(raw) > maxFileBytes {
		d.fail(0, path, "the value has %d bytes", len(raw))
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(raw)
		return
	}
	if text := strings.TrimSpace(raw); !strings.HasPrefix(text, "[") && !strings.HasPrefix(text, "{") {
		switch v.Kind() {
		case reflect.Slice, reflect.Array:
			raw = "[" + raw + "]"
		case reflect.Map:
			raw = "{" + raw + "}"
		}
	}
	before := len(d.problems)
	node, ok := d.parse([]byte(raw))
	switch {
	case !ok:
	case node == nil:
		d.fail(0, path, "has no value; it wants %s", wanted(v.Type()))
	default:
		d.value(path, node, v)
	}
	for i := before; i < len(d.problems); i++ { // a line within the override says nothing
		d.problems[i].Line = 0
		if d.problems[i].Path == "" {
			d.problems[i].Path = path
		}
	}
}

// Get reads one field by its path, as Set would take it: numbers and text
// plain, lists in brackets.
func Get(exp Experiment, path string) (any, error) {
	v := valueOf(&exp)
	at := ""
	for _, key := range strings.Split(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil, nil
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return nil, Problems{{Path: path, Message: at + " holds " + wanted(v.Type()) + ", no keys"}}
		}
		field, ok := fieldByKey(v, key)
		if !ok {
			return nil, Problems{{Path: at, Message: unknownKey(at, key, v.Type())}}
		}
		v, at = field, join(at, key)
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, nil
		}
		v = v.Elem()
	}
	return v.Interface(), nil
}

// Clone copies the experiment with all it points to.
func (e Experiment) Clone() Experiment {
	if e.Backbone.Tiny != nil {
		tiny := *e.Backbone.Tiny
		e.Backbone.Tiny = &tiny
	}
	e.Seeds = append([]uint64{}, e.Seeds...)
	e.Corpus.Strategies = maps.Clone(e.Corpus.Strategies)
	e.LoRA.Targets = append([]string(nil), e.LoRA.Targets...)
	if e.DPO.SimPOGamma != nil {
		e.DPO.SimPOGamma = new(*e.DPO.SimPOGamma)
	}
	e.DPO.PairSets = append([]esc.PairSet(nil), e.DPO.PairSets...)
	e.Judge.Compare = append([][2]string(nil), e.Judge.Compare...)
	e.Judge.Also = append([]NamedJudge{}, e.Judge.Also...)
	if e.Mining.Judge != nil {
		judge := *e.Mining.Judge
		e.Mining.Judge = &judge
	}
	e.Paradigms = append([]Paradigm(nil), e.Paradigms...)
	e.Methods = append([]Method(nil), e.Methods...)
	return e
}
