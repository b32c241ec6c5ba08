//go:build cgo

package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gomlx/compute"

	"github.com/esclab/esclab/lm/cpu/internal/kernels"
)

// state is what the installed executors read.
type state struct {
	on      atomic.Bool
	threads int
	skip    [compute.OpTypeLast]bool // Operations that failed the self-test.
}

var (
	installMu sync.Mutex
	installed bool
	layoutErr error
	current   = &state{}
	replaced  []compute.OpType

	last       *choice
	lastStatus Status
)

// Install puts the kernels under every Go backend of the process, existing and
// future; graphs compiled before keep working. Calling it again with the same
// options changes nothing, at any time; with other options, no graph may be
// running or compiling.
//
// It returns an error only for options that cannot be honoured; where the
// backend's internals are not the known ones, or an operation fails its
// comparison with the stock executor, those stay and Status says so.
func Install(o Options) (Status, error) {
	installMu.Lock()
	defer installMu.Unlock()
	level, off, err := chooseLevel(o.kernels())
	if err != nil {
		return Status{Kernels: "off"}, err
	}
	chosen := choice{level, off, o.Threads}
	if last == nil || *last != chosen {
		lastStatus = install(chosen)
		last = &chosen
	}
	status := lastStatus
	status.Operations = slices.Clone(status.Operations)
	return status, nil
}

// choice is what Install makes of its options.
type choice struct {
	level   kernels.Level
	off     bool
	threads int
}

// install switches the process to the choice; installMu is held.
func install(c choice) Status {
	current.on.Store(false)
	if c.off {
		return Status{Kernels: "off", Reason: "switched off"}
	}
	current.threads = c.threads
	if c.threads <= 0 {
		current.threads = runtime.GOMAXPROCS(0)
	}
	if !installed {
		installed = true
		if layoutErr = checkLayout(); layoutErr == nil {
			replaceExecutors()
			layoutErr = registerPass(pass{current})
		}
	}
	if layoutErr != nil {
		return Status{Kernels: "off", Reason: fmt.Sprintf("unknown backend: %v", layoutErr)}
	}
	kernels.Use(c.level)
	status := Status{Kernels: c.level.String()}
	failed, err := selfTest(current)
	if err != nil {
		return Status{Kernels: "off", Reason: fmt.Sprintf("self-test: %v", err)}
	}
	if len(failed) > 0 {
		status.Reason = fmt.Sprintf("left to the stock executors, which give other results: %s", strings.Join(failed, ", "))
	}
	for _, op := range replaced {
		if !current.skip[op] {
			status.Operations = append(status.Operations, op.String())
		}
	}
	slices.Sort(status.Operations)
	current.on.Store(true)
	return status
}

// chooseLevel maps a name to a level that this machine runs.
func chooseLevel(name string) (level kernels.Level, off bool, err error) {
	switch name {
	case "off":
		return 0, true, nil
	case "":
		for _, l := range []kernels.Level{kernels.AMX, kernels.AVX512, kernels.AVX2, kernels.NEON} {
			if kernels.Supported(l) {
				return l, false, nil
			}
		}
		return kernels.Portable, false, nil
	}
	for _, l := range []kernels.Level{kernels.Portable, kernels.AVX2, kernels.AVX512, kernels.AMX, kernels.NEON} {
		if l.String() == name {
			if !kernels.Supported(l) {
				return 0, false, fmt.Errorf("cpu: this machine does not run %s kernels: leave %s empty or choose portable", name, EnvKernels)
			}
			return l, false, nil
		}
	}
	return 0, false, fmt.Errorf("cpu: %s=%q is none of off, portable, avx2, avx512, amx, neon", EnvKernels, name)
}

// replace puts fn before the stock executor of op, which still takes what fn
// does not: fn returns neither a buffer nor an error then.
func replace(op compute.OpType, fn executor) {
	stock := nodeExecutors[op]
	if stock == nil {
		return
	}
	replaced = append(replaced, op)
	setNodeExecutor(op, priorityUser, func(b *backend, n *node, inputs []*buffer, owned []bool) (*buffer, error) {
		if _, ok := n.Data.(*fusedOps); ok {
			return current.fused(b, n, inputs, owned)
		}
		if _, ok := n.Data.(*addedDot); ok {
			return current.addDot(b, n, inputs, owned)
		}
		// What this package put into a node runs whether the kernels are switched on or not: no other executor knows it.
		_, ours := n.Data.(*stridedDot)
		if ours || current.on.Load() && !current.skip[op] {
			out, err := fn(b, n, inputs, owned)
			if out != nil || err != nil || ours {
				return out, err
			}
		}
		return stock(b, n, inputs, owned)
	})
}

// replaceExecutors installs every executor of this package.
func replaceExecutors() {
	s := current
	replace(compute.OpTypeDotGeneral, s.dotGeneral)
	for op, kernel := range binaryOps {
		replace(op, s.binary(kernel))
	}
	for op, u := range unaryOps {
		replace(op, s.unary(u.op, u.cost))
	}
	for op, kernel := range reduceOps {
		replace(op, s.reduce(kernel))
	}
	replace(compute.OpTypeWhere, s.where)
	replace(compute.OpTypeConvertDType, s.convert)
	replace(compute.OpTypeFusedSoftmax, s.softmax)
	replace(compute.OpTypeTranspose, s.transpose)
	replace(compute.OpTypeBroadcastInDim, s.broadcastInDim)
	replace(compute.OpTypeSlice, s.slice)
	replace(compute.OpTypeConcatenate, s.concatenate)
	replace(compute.OpTypePad, s.pad)
	replace(compute.OpTypeGather, s.gather)
	replace(compute.OpTypeScatterSum, s.scatterSum)
}
