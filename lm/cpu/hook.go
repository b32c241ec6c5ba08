//go:build cgo

package cpu

import (
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/notimplemented"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/compute/support/sets"
)

// The types below mirror those of github.com/gomlx/compute/internal/gobackend
// and its sub-packages field for field; checkLayout compares them with the real
// ones by reflection before anything is installed.

// backend stands for gobackend.Backend, of which only the address is used.
type backend struct{ _ byte }

// node mirrors gobackend.Node.
type node struct {
	Index              int
	Inputs             []*node
	CapturedInputs     [][]*node
	OpType             compute.OpType
	Shape              shapes.Shape
	Builder            *builder
	Function           *function
	MultiOutputsShapes []shapes.Shape
	MultiOutputsNodes  []*node
	IsNodeSelectOutput bool
	SelectOutputIdx    int
	Data               any
}

// buffer mirrors gobackend.Buffer.
type buffer struct {
	RawBackend *backend
	RawShape   shapes.Shape
	InUse      bool
	//lint:ignore U1000 mirrored for its place and size alone
	isUserFed bool
	RawBytes  []byte
	Flat      any
}

// builder mirrors gobackend.Builder.
type builder struct {
	notimplemented.Builder
	//lint:ignore U1000 mirrored for its place and size alone
	name       string
	Backend    *backend
	IsCompiled bool
	MainFn     *function
	Functions  []*function
}

// function mirrors gobackend.Function.
type function struct {
	notimplemented.Function
	RawBuilder *builder
	//lint:ignore U1000 mirrored for its place and size alone
	name                string
	RawParent           *function
	IsReturned          bool
	Nodes               []*node
	Outputs             []*node
	Parameters          []*node
	CapturedParentNodes []*node
	CapturedLocalNodes  []*node
	//lint:ignore U1000 mirrored for its place and size alone
	nodeDedup map[int][]*node
	Compiled  unsafe.Pointer
	//lint:ignore U1000 mirrored for its place and size alone
	knownDynamicAxisNames sets.Set[string]
}

// dotData mirrors dot.NodeData, the data of a DotGeneral node.
type dotData struct {
	InputDType, OutputDType                                dtypes.DType
	Config                                                 compute.DotGeneralConfig
	Layout                                                 int
	LHSContractingAxes, LHSBatchAxes                       []int
	RHSContractingAxes, RHSBatchAxes                       []int
	BatchSize, LHSCrossSize, RHSCrossSize, ContractingSize int
	//lint:ignore U1000 mirrored for its place and size alone
	implementation unsafe.Pointer
}

// The values of dot.Layout: the right-hand side is [batch, contracting, cross]
// or [batch, cross, contracting]; the left one is [batch, cross, contracting].
const (
	layoutNonTransposed = 0
	layoutTransposed    = 1
)

// gatherData mirrors ops.gatherNode.
type gatherData struct {
	indexVectorAxis                                                  int
	offsetOutputAxes, collapsedSlicesAxes, startIndexMap, sliceSizes []int
	//lint:ignore U1000 mirrored for its place and size alone
	indicesAreSorted bool
}

// scatterData mirrors ops.scatterNode.
type scatterData struct {
	indexVectorAxis                                                int
	updateWindowAxes, insertedWindowAxes, scatterAxesToOperandAxes []int
	//lint:ignore U1000 mirrored for its place and size alone
	indicesAreSorted, uniqueIndices bool
}

// sliceData mirrors ops.sliceNode.
type sliceData struct {
	starts []int
	//lint:ignore U1000 mirrored for its place and size alone
	limits  []int
	strides []int
}

// data returns the node's data seen as a *T; the caller knows that the
// operation keeps a pointer to such a struct there.
func data[T any](n *node) *T {
	return (*T)((*[2]unsafe.Pointer)(unsafe.Pointer(&n.Data))[1])
}

// executor mirrors gobackend.NodeExecutor: it returns the output buffer, and
// sets inputs[i] to nil where it took over an owned input.
type executor func(b *backend, n *node, inputs []*buffer, inputsOwned []bool) (*buffer, error)

// priorityUser is gobackend.PriorityUser.
const priorityUser = 100

//go:linkname nodeExecutors github.com/gomlx/compute/internal/gobackend.nodeExecutors
var nodeExecutors [compute.OpTypeLast]executor

//go:linkname setNodeExecutor github.com/gomlx/compute/internal/gobackend.SetNodeExecutor
func setNodeExecutor(op compute.OpType, priority int, fn executor)

//go:linkname newBuffer github.com/gomlx/compute/internal/gobackend.(*Backend).GetBuffer
func newBuffer(b *backend, shape shapes.Shape) (*buffer, error)

//go:linkname putBuffer github.com/gomlx/compute/internal/gobackend.(*Backend).PutBuffer
func putBuffer(b *backend, buf *buffer)

// transformation mirrors gobackend.GraphTransformation: the same methods, and
// so the same method table.
type transformation interface {
	Apply(b *builder) (dagModified bool, err error)
	Name() string
}

//go:linkname registerTransformation github.com/gomlx/compute/internal/gobackend.RegisterTransformation
func registerTransformation(priority int, t transformation)
