import type { Graph } from './graph.ts'
import { type Body, type FunctionNode, homeOf, isFunction, type Node, nameOf, type Tree } from './tree.ts'

/** One place that keeps a value as long as the process runs, and everything that mentions it. */
export interface Slot {
  readonly label: string
  readonly tree: Tree
  readonly declared: Node
  readonly init: Node | undefined
  /** Changes while this runs make the value; later ones change it. */
  readonly home: Body
  readonly mentions: readonly { tree: Tree; node: Node }[]
}

export interface Change {
  readonly tree: Tree
  readonly node: Node
  /** `assign`: another value takes its place. `put`: under a key. `other`: added, removed, counted. */
  readonly how: 'assign' | 'put' | 'clear' | 'other'
  readonly value: Node | undefined
}

const mutators: Record<Container, ReadonlySet<string>> = {
  Map: new Set(['set', 'delete', 'clear']),
  Set: new Set(['add', 'delete', 'clear']),
  array: new Set(['push', 'pop', 'shift', 'unshift', 'splice', 'sort', 'reverse', 'fill', 'copyWithin', 'set']),
  object: new Set(),
}

type Container = 'Map' | 'Set' | 'array' | 'object'

const arrays = /^(Array|(Ui|I)nt(8|16|32)(Clamped)?Array|Big(Ui|I)nt64Array|Float(16|32|64)Array)$/
/** Packages whose instances are Maps that forget. */
const cachePackages = new Set(['lru-cache', 'node-cache', 'quick-lru', 'tiny-lru', '@isaacs/ttlcache', 'memory-cache'])

/** What kind of container an expression makes. Not seen: one that a function returns. */
export function containerOf(graph: Graph, tree: Tree, node: Node | undefined): Container | undefined {
  if (node?.type === 'ArrayExpression') return 'array'
  if (node?.type === 'ObjectExpression') return 'object'
  if (node?.type !== 'NewExpression' && node?.type !== 'CallExpression') return undefined
  const origin = graph.originOf(tree, node.callee as Node)
  if (origin && 'own' in origin) return node.type === 'NewExpression' ? 'object' : undefined
  if (origin && 'from' in origin) return cachePackages.has(origin.from) ? 'Map' : undefined
  if (origin === undefined || !('global' in origin)) return undefined
  const name = [origin.global, ...origin.path].join('.')
  if (name === 'Map' || name === 'Set') return node.type === 'NewExpression' ? name : undefined
  if (arrays.test(name) || name === 'Array.from' || name === 'Array.of') return 'array'
  return name === 'Object.create' || name === 'Object.fromEntries' ? 'object' : undefined
}

/** How a mention changes what it mentions, if it does. */
export function changeAt(graph: Graph, slot: Slot, tree: Tree, mention: Node): Change | undefined {
  const path: string[] = []
  let at = mention
  let up = tree.parent(at)
  for (; up; at = up, up = tree.parent(at)) {
    if (up.type === 'MemberExpression' && up.object === at) {
      path.push(up.computed ? '' : nameOf(up.property as Node))
    } else if (up.type !== 'ChainExpression') break
  }
  if (up === undefined) return undefined
  const change = (how: Change['how'], value?: Node): Change => ({ tree, node: at, how, value })
  const written = writeOf(tree, at, up)
  if (written) {
    if (path.length === 0)
      return written.isPlain ? change(isNothing(written.value) ? 'clear' : 'assign', written.value) : change('other')
    if (!['object', 'array'].includes(held(graph, slot, path.slice(0, -1)) ?? '')) return undefined
    return change(written.isPlain ? 'put' : 'other', written.value)
  }
  if (up.type === 'CallExpression' && up.callee === at && path.length > 0) {
    const kind = held(graph, slot, path.slice(0, -1))
    const method = path.at(-1)!
    if (kind === undefined || !mutators[kind].has(method)) return undefined
    if (method === 'set' && kind === 'Map') return change('put', up.arguments[1] as Node | undefined)
    return change(kind === 'Map' ? 'clear' : 'other')
  }
  if (up.type === 'UnaryExpression' && up.operator === 'delete' && path.length > 0) {
    return held(graph, slot, path.slice(0, -1)) ? change('clear') : undefined
  }
  if (up.type === 'CallExpression' && up.arguments[0] === at) {
    const origin = graph.originOf(tree, up.callee as Node)
    const isAssign = origin && 'global' in origin && origin.global === 'Object' && origin.path[0] === 'assign'
    return isAssign && held(graph, slot, path) ? change('other') : undefined
  }
  return undefined
}

function held(graph: Graph, { tree, init }: Slot, path: readonly string[]): Container | undefined {
  let node = init
  for (const name of path) {
    if (node?.type !== 'ObjectExpression') return undefined
    const found = node.properties.find(
      (one) => one.type === 'Property' && !one.computed && nameOf(one.key as Node) === name,
    )
    node = found?.type === 'Property' ? (found.value as Node) : undefined
  }
  return containerOf(graph, tree, node)
}

/** `isPlain`: `=`, `??=` or `||=`, and not `+=` or `++`. */
function writeOf(tree: Tree, node: Node, parent: Node): { isPlain: boolean; value?: Node } | undefined {
  if (parent.type === 'UpdateExpression') return { isPlain: false }
  if (parent.type === 'AssignmentExpression' && parent.left === node) {
    return { isPlain: ['=', '??=', '||='].includes(parent.operator), value: parent.right as Node }
  }
  let at: Node | undefined = node
  let up: Node | undefined = parent
  while (
    up &&
    (up.type === 'ArrayPattern' ||
      up.type === 'ObjectPattern' ||
      up.type === 'RestElement' ||
      (up.type === 'Property' && up.value === at) ||
      (up.type === 'AssignmentPattern' && up.left === at))
  ) {
    at = up
    up = tree.parent(up)
  }
  if (at !== node && up?.type === 'AssignmentExpression' && up.left === at) return { isPlain: false }
  return (up?.type === 'ForOfStatement' || up?.type === 'ForInStatement') && up.left === at
    ? { isPlain: false }
    : undefined
}

function isNothing(value: Node | undefined): boolean {
  return (
    (value?.type === 'Identifier' && value.name === 'undefined') || (value?.type === 'Literal' && value.value === null)
  )
}

/** Whether a change happens after the value was made: in a function that runs later, and that outlives the run it belongs to. */
export function isLater(graph: Graph, { tree: own, home }: Slot, { tree, node }: Change): boolean {
  const chain: FunctionNode[] = []
  for (let run = graph.runOf(tree, node); run !== home && run.type !== 'Program'; run = graph.runOf(tree, run)) {
    if (tree === own && !isInside(run, home)) break
    if (isFunction(run) && !isConstructorOf(tree, run, home)) chain.push(run)
  }
  if (chain.every((fn) => graph.onlyAtStart(tree, fn, home))) return false
  if (!isFunction(home) || graph.isSetUp(home)) return true
  return outlives(graph, tree, chain.at(-1)!, home)
}

function isInside(inner: Node, outer: Node): boolean {
  return inner.start >= outer.start && inner.end <= outer.end
}

function isConstructorOf(tree: Tree, fn: FunctionNode, of: Body): boolean {
  const up = tree.parent(fn)
  return up?.type === 'MethodDefinition' && up.kind === 'constructor' && tree.parent(tree.parent(up)!) === of
}

/** Whether a function is still there when the function that made it has returned: it was returned, stored, or given to the router. */
function outlives(graph: Graph, tree: Tree, node: Node, maker: FunctionNode, seen = new Set<Node>()): boolean {
  if (seen.has(node)) return false
  seen.add(node)
  const usesOutlive = (id: Node) =>
    (tree.bindingOf(id)?.uses ?? []).some((use) => {
      const up = tree.parent(use)
      if (up?.type !== 'CallExpression' || up.callee !== use) return outlives(graph, tree, use, maker, seen)
      const caller = homeOf(tree, use)
      return (
        caller !== maker && isFunction(caller) && isInside(caller, maker) && outlives(graph, tree, caller, maker, seen)
      )
    })
  if (node.type === 'FunctionDeclaration') return usesOutlive(node.id as Node)
  for (let at = node, up = tree.parent(at); up && up !== maker; at = up, up = tree.parent(at)) {
    if (up.type === 'ReturnStatement' || isFunction(up)) return true
    if (up.type === 'AssignmentExpression') return up.right === at
    if (up.type === 'VariableDeclarator') return up.id.type === 'Identifier' && usesOutlive(up.id)
    if (up.type === 'MemberExpression') return false
    if (up.type === 'CallExpression') return isKeptBy(graph, tree, up.callee as Node, maker)
    if (up.type.endsWith('Statement')) return false
  }
  return true // the value of an arrow function without a block
}

/** Whether a call keeps the functions that it is given: one of Rung, a timer, or a method of what the maker was given. */
function isKeptBy(graph: Graph, tree: Tree, callee: Node, maker: FunctionNode): boolean {
  let root = callee
  while (root.type === 'MemberExpression') root = root.object as Node
  const binding = tree.bindingOf(root)
  if (callee !== root && binding?.kind === 'param' && binding.home === maker) return true
  const origin = graph.originOf(tree, callee)
  if (origin === undefined) return false
  return (
    ('from' in origin && origin.from === 'rung') ||
    ('global' in origin && /^set(Interval|Timeout)$/.test(origin.global))
  )
}
