package lm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/esclab/esclab/lm/cpu"
	"github.com/esclab/esclab/lm/engines"
)

// Engine runs graphs: one opened GoMLX backend. Safe for concurrent use; close it when done.
type Engine struct {
	Name      string             // go, onnx, xla:cuda, xla:cpu or xla:/path/to/plugin.so
	Version   string             // of the engine's modules and library: results are bit-identical only within one
	Library   string             // path of the library it loaded; "" where it is part of this program
	Variables []engines.Variable // of the environment that it read
	Backend   compute.Backend    // what runs graphs
	// ChoicesDir is where kernels are kept that were chosen by timing, so that they are chosen again; "": none are.
	ChoicesDir string

	ablated map[string]bool // see Ablate
	builder compute.Backend // what graphs are built with, where that is not Backend itself; buffers are Backend's
	shapes  atomic.Int64    // graphs compiled so far
	loaded  atomic.Int64    // see UploadedBytes
}

// engineNames is what Open takes, but for auto.
var engineNames = []string{"go", "onnx", "xla:cuda", "xla:cpu"}

// EngineNames lists the engines by name, the one that always works first.
func EngineNames() []string { return append([]string(nil), engineNames...) }

// ErrEngineMissing says that an engine's library is not on this machine, or does not work here.
var ErrEngineMissing = errors.New("engine is not available")

// EngineError is an ErrEngineMissing in full.
type EngineError struct {
	Engine    string
	Cause     error
	Remedy    string             // what it would take
	Variables []engines.Variable // of the environment that was read
}

func (e *EngineError) Error() string {
	text := fmt.Sprintf("engine %s: %v: %v", e.Engine, ErrEngineMissing, e.Cause)
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

// Unwrap makes it an ErrEngineMissing.
func (e *EngineError) Unwrap() []error { return []error{ErrEngineMissing, e.Cause} }

// EngineOptions say where engines' libraries are. The zero value finds those that the environment names and those in
// the usual places of the system.
type EngineOptions struct {
	// DataDir is esclab's data directory, below which `esclab engine install` keeps libraries; "": none.
	DataDir string
}

// Open opens an engine by name: go (always there), onnx, xla:cuda, xla:cpu, xla:/path/to/plugin.so, or auto, which
// takes xla:cuda where a GPU and a plugin for it are installed and go elsewhere. Nothing is ever downloaded: what is
// missing is an EngineError, ErrEngineMissing, that says what it would take.
func (o EngineOptions) Open(spec string) (*Engine, error) {
	switch {
	case spec == "" || spec == "auto":
		if engine, err := openXLA("cuda", o.DataDir); err == nil {
			return engine, nil
		}
		return openGo()
	case spec == "go":
		return openGo()
	case spec == "onnx":
		return openONNX(o.DataDir)
	case strings.HasPrefix(spec, "xla:"):
		return openXLA(strings.TrimPrefix(spec, "xla:"), o.DataDir)
	}
	return nil, fmt.Errorf("unknown engine %q: use auto, %s", spec, strings.Join(engineNames, ", "))
}

// goHalf counts the changes of what the engine go computes of a base in bfloat16 on processors that multiply it: 2, since
// the decoder, attention and adapters multiply on AMX's tiles, too.
const goHalf = 2

// Identity is what the bits of results depend on, besides what is computed: the engine, its version, and with a base in
// bfloat16 whether this processor multiplies that.
func (e *Engine) Identity(base BaseType) string {
	id := e.Name + " " + e.Version
	if e.Name == "go" && base == BFloat16 {
		if multipliesHalf(e.Backend) {
			id += fmt.Sprintf(" bfloat16 %d", goHalf)
		} else {
			id += " bfloat16 widened"
		}
	}
	return id
}

// Close releases the backend.
func (e *Engine) Close() { e.Backend.Finalize() }

// What Ablate leaves out.
const (
	ablateBeside    = "beside"    // the product of an adapter's B and the base's weight in one
	ablateJoint     = "joint"     // weights of the base and A's that read the same input in one
	ablateAttention = "attention" // products of bfloat16 in attention, and its gradient by hand
	ablateSampling  = "sampling"  // drawing tokens on the device
)

// Ablations lists what Ablate takes.
func Ablations() []string {
	return []string{ablateBeside, ablateJoint, ablateAttention, ablateSampling}
}

// Ablate leaves changes of graphs for XLA out of what is made on the engine from now on, so that a benchmark can tell
// what each is worth. It is not for results: the engine's version does not say it.
func (e *Engine) Ablate(changes ...string) error {
	for _, c := range changes {
		if !slices.Contains(Ablations(), c) {
			return fmt.Errorf("there is no change %q to leave out: use %s", c, strings.Join(Ablations(), ", "))
		}
		if e.ablated == nil {
			e.ablated = map[string]bool{}
		}
		e.ablated[c] = true
	}
	return nil
}

// onOnnx says whether a graph is built for ONNX Runtime.
func onOnnx(g *graph.Graph) bool { return g.Backend().Name() == "onnxruntime" }

// onXLA says whether a graph is built for XLA.
func onXLA(g *graph.Graph) bool { return isXLA(g.Backend()) }

func isXLA(b compute.Backend) bool { return b.Name() == "xla" }

// mostShapes is how many shapes a plan may have where nobody says. Compiling a graph takes Go's backend a second or
// less, and XLA the tenth of a minute or more: padding is cheaper there.
func (e *Engine) mostShapes() int {
	if isXLA(e.Backend) {
		return 3
	}
	return defaultShapes
}

// newGraph begins a graph.
func (e *Engine) newGraph(name string) *graph.Graph {
	if e.builder != nil {
		return graph.NewGraph(e.builder, name)
	}
	return graph.NewGraph(e.Backend, name)
}

// CompiledShapes is the number of graphs this engine has compiled.
func (e *Engine) CompiledShapes() int { return int(e.shapes.Load()) }

// SaveChoices writes the kernels of ChoicesDir as JSON.
func (e *Engine) SaveChoices(w io.Writer) error {
	chosen, err := engines.ReadChoices(e.ChoicesDir)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(chosen)
}

// LoadChoices has graphs that are compiled from now on take the kernels that SaveChoices wrote, but for the others, which
// are of another plugin or device, or were chosen differently here.
func (e *Engine) LoadChoices(r io.Reader) (others int, err error) {
	var chosen engines.Chosen
	if err := json.NewDecoder(r).Decode(&chosen); err != nil {
		return 0, fmt.Errorf("XLA's choices of kernels: %w", err)
	}
	return chosen.Add(e.ChoicesDir)
}

// UploadedBytes is the size of what graphs on this engine were given so far that was not on its device yet.
func (e *Engine) UploadedBytes() int64 { return e.loaded.Load() }

// Uploads says whether weights are copied to a device to be used, as XLA does: worth keeping there for what comes next.
func (e *Engine) Uploads() bool { return isXLA(e.Backend) }

// openGo opens GoMLX's Go backend with our kernels under its operations, where they can be installed.
func openGo() (*Engine, error) {
	status, err := cpu.Install(cpu.Options{})
	if err != nil {
		return nil, fmt.Errorf("engine go: %w", err)
	}
	// One operation at a time: our kernels spread each over the cores themselves, decoding takes half the processor
	// time, and the backend's worker pool, which deadlocks on LoRA graphs (ready nodes fill it, then each waits for a
	// slot for its own matrix product), is never full. creation_order keeps peak memory low.
	backend, err := gobackend.New("ops_sequential,creation_order")
	if err != nil {
		return nil, fmt.Errorf("engine go: %w", err)
	}
	version := "compute " + moduleVersion("github.com/gomlx/compute") + " " + runtime.GOARCH
	if status.Active() { // with ESCLAB_CPU_KERNELS=off the backend's own operations compute
		version += " " + status.Kernels
	}
	kernelChoice := engines.Variable{Name: cpu.EnvKernels, Value: os.Getenv(cpu.EnvKernels)}
	return &Engine{Name: "go", Version: version, Backend: backend, Variables: []engines.Variable{kernelChoice}}, nil
}

// tryGraph computes a small graph, so that an engine that opens but does not work is found out before anything of
// value depends on it: a PJRT plugin is not asked for its version, and a device may be unusable.
func (e *Engine) tryGraph() error {
	const n = 4
	p := newProgram(e, "small graph", func(nodes []*graph.Node) []*graph.Node {
		return []*graph.Node{graph.ReduceAllSum(graph.MatMul(nodes[0], nodes[0]))}
	})
	defer p.close()
	x := tensors.FromFlatDataAndDimensions(slices.Repeat([]float32{2}, n*n), n, n)
	defer release(x)
	out, err := p.run(keep(x))
	if err != nil {
		return err
	}
	defer release(out...)
	got, err := scalar(out[0])
	if err != nil {
		return err
	}
	if got != 4*n*n*n {
		return fmt.Errorf("a small graph gives %v, not %v", got, 4*n*n*n)
	}
	e.shapes.Store(0) // graphs of the caller are counted
	return nil
}

// moduleVersion is the version of a module in this binary, or "unknown".
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return m.Replace.Version
			}
			return m.Version
		}
	}
	return "unknown"
}
