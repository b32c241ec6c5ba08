package tokens

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/syntax"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// Limits of chat templates, which come with checkpoints from anywhere. Those of
// Qwen2.5 and Llama 3.1 have 2 to 4 kB and write some hundred bytes a message.
const (
	maxTemplate  = 256 << 10 // bytes of its source
	maxRendering = 4 << 20   // bytes that it writes
	maxRange     = 10_000    // numbers of one range()
	maxSteps     = 2_000_000 // statements and expressions of one rendering
	maxCaptured  = 64 << 20  // bytes of its own text that it may keep in variables
	maxCalls     = 60        // macros within each other
	maxTime      = 10 * time.Second
)

// jinja is a compiled chat template.
type jinja struct {
	template *minijinja.Template
	printed  int // bytes that this rendering's expressions have printed, also into variables
}

// compileTemplate parses a chat template with the settings of transformers' environment (trim_blocks, lstrip_blocks)
// and its raise_exception.
func compileTemplate(source string) (compiled *jinja, err error) {
	defer recovered(&err)
	if len(source) > maxTemplate {
		return nil, fmt.Errorf("a template of %d bytes, at most %d", len(source), maxTemplate)
	}
	translated, longest, err := translate(source)
	if err != nil {
		return nil, err
	}
	env := minijinja.NewEnvironment()
	env.SetWhitespace(syntax.WhitespaceConfig{TrimBlocks: true, LstripBlocks: true})
	env.SetAutoEscapeFunc(func(string) minijinja.AutoEscape { return minijinja.AutoEscapeNone })
	compiled = &jinja{}
	env.SetFormatter(func(_ *minijinja.State, v value.Value, _ func(string) string) string {
		text := pyString(v)
		if compiled.printed += len(text); compiled.printed > maxCaptured {
			panic(errTooLong)
		}
		return text
	})
	env.SetRecursionLimit(maxCalls)
	// What a template keeps in variables is bounded by how often it can write its longest text.
	steps := uint64(min(maxSteps, maxCaptured/(longest+1)))
	env.SetFuel(&steps)
	for name, f := range pyFunctions {
		env.AddFunction(name, func(_ *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
			return f(args, kwargs)
		})
	}
	env.AddFunction("_method", callMethod)
	for name, f := range pyFilters {
		env.AddFilter(name, func(_ minijinja.FilterState, v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
			return f(v, args, kwargs)
		})
	}
	for name, f := range pyTests {
		env.AddTest(name, func(_ minijinja.FilterState, v value.Value, _ []value.Value) (bool, error) { return f(v), nil })
	}
	for name, f := range pyComparisons {
		env.AddTest(name, func(_ minijinja.FilterState, v value.Value, args []value.Value) (bool, error) {
			if len(args) != 1 {
				return false, fmt.Errorf("the test %s takes one argument", name)
			}
			return f(v, args[0])
		})
	}
	compiled.template, err = env.TemplateFromNamedString("chat_template", translated)
	if err != nil {
		return nil, err
	}
	return compiled, nil
}

// render runs the template, one call at a time. now gives the date to templates that ask for it; nil: there is no date.
func (j *jinja) render(variables map[string]value.Value, now func() time.Time) (text string, err error) {
	defer recovered(&err)
	j.printed = 0
	variables = maps.Clone(variables)
	if now != nil {
		variables["strftime_now"] = value.FromCallable(strftime(now))
	}
	ctx, stop := context.WithTimeout(context.Background(), maxTime)
	defer stop()
	var out limitedWriter
	err = j.template.RenderToWriteCtx(ctx, value.FromMap(variables), &out)
	return out.String(), err
}

// limitedWriter refuses to grow beyond a limit.
type limitedWriter struct{ strings.Builder }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.Len()+len(p) > maxRendering {
		return 0, fmt.Errorf("the template writes more than %d bytes", maxRendering)
	}
	return w.Builder.Write(p)
}

// strftime is transformers' strftime_now: the local time by a format.
type strftime func() time.Time

// Call implements value.Callable.
func (now strftime) Call(_ value.State, args []value.Value, _ map[string]value.Value) (value.Value, error) {
	format, err := stringArgs("strftime_now", args, 1, 1)
	if err != nil {
		return value.Undefined(), err
	}
	layouts := map[byte]string{'Y': "2006", 'm': "01", 'd': "02", 'b': "Jan", 'B': "January", 'A': "Monday", 'a': "Mon", 'H': "15", 'I': "03",
		'M': "04", 'S': "05", 'p': "PM", 'y': "06", 'j': "002", 'Z': "MST", 'z': "-0700"}
	var out strings.Builder
	for f := format[0]; f != ""; {
		before, rest, found := strings.Cut(f, "%")
		out.WriteString(before)
		if !found {
			break
		}
		if rest == "" || layouts[rest[0]] == "" && rest[0] != '%' {
			return value.Undefined(), fmt.Errorf("strftime_now(%q): %%%.1s is not supported", format[0], rest)
		}
		if f = rest[1:]; rest[0] == '%' {
			out.WriteByte('%')
		} else {
			out.WriteString(now().Format(layouts[rest[0]]))
		}
	}
	return value.FromString(out.String()), nil
}

// callMethod calls a method of a text, a dict or an object of the engine's (loop.cycle, a macro's caller).
func callMethod(state *minijinja.State, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	receiver, rest := args[0], args[2:]
	name, _ := args[1].AsString()
	if receiver.IsUndefined() {
		return value.Undefined(), fmt.Errorf("the method %s of something undefined", name)
	}
	s, isString := receiver.AsString()
	d, isDict := dictOf(receiver)
	if isDict {
		if callable, ok := d.GetAttr(name).AsCallable(); ok {
			return callable.Call(state, rest, kwargs)
		}
	}
	if (isString || isDict) && len(kwargs) > 0 {
		// Python's names of what templates give by name.
		for _, key := range []string{"sep", "maxsplit", "chars", "old", "new", "count", "default"} {
			if v, ok := kwargs[key]; ok {
				rest = append(slices.Clone(rest), v)
			}
		}
		if len(rest) != len(args)-2+len(kwargs) || kwargs["maxsplit"] != (value.Value{}) && len(rest) == 1 {
			return value.Undefined(), fmt.Errorf("the method %s with these named arguments is not supported", name)
		}
	}
	switch {
	case isString:
		return stringMethod(s, name, rest)
	case isDict:
		return dictMethod(d, name, rest)
	}
	if object, ok := receiver.AsObject(); ok {
		if methods, ok := object.(value.MethodCallable); ok {
			return methods.CallMethod(state, name, rest, kwargs)
		}
	}
	if callable, ok := receiver.GetAttr(name).AsCallable(); ok {
		return callable.Call(state, rest, kwargs)
	}
	return value.Undefined(), fmt.Errorf("the method %s of %s is not supported", name, receiver.Kind())
}

// recovered turns a panic of the template engine into an error.
func recovered(err *error) {
	switch r := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("chat_template: %w", r)
	default:
		*err = fmt.Errorf("chat_template: %v", r)
	}
}
