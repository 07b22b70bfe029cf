import {
  type Binding,
  type Body,
  type Class,
  type FunctionNode,
  homeOf,
  type Imported,
  isClass,
  isFunction,
  type Node,
  nameOf,
  type Tree,
} from './tree.ts'

/** Where a value comes from: a name of the app's own files, a package, or a global. */
export type Origin =
  | { own: Binding }
  | { exported: Node; tree: Tree }
  | { from: string; path: readonly string[] }
  | { global: string; path: readonly string[] }
  | undefined

/** The files of an app as one program: what names mean across files, and what runs once, when a process starts. */
export interface Graph {
  readonly trees: readonly Tree[]
  originOf(tree: Tree, node: Node): Origin
  /** The binding that an identifier stands for, in whichever file. */
  ownOf(tree: Tree, node: Node): Binding | undefined
  /** All that mentions a binding, in all files. */
  usesOf(binding: Binding): readonly { tree: Tree; node: Node }[]
  /** Whether this code runs when a process starts: that of a file, of a module's set-up functions, and of what they call. */
  runsAtStart(tree: Tree, node: Node): boolean
  /** Whether a run of it lasts as long as the process. */
  lasts(body: Body): boolean
  /** Whether a module names it as one of its set-up functions. */
  isSetUp(body: Body): boolean
  /** Whether it only ever runs while the process starts, or while `within` runs. */
  onlyAtStart(tree: Tree, fn: FunctionNode, within?: Body): boolean
  /** What must run for this node to run; a callback that is called at once belongs to what surrounds it. */
  runOf(tree: Tree, node: Node): Body
}

/** Functions of `defineModule` that run once in each process. */
const setUpNames = new Set(['calls', 'identify', 'routes', 'work', 'warm'])
/** Methods that call their function before they return. `register` sets up a plugin. */
const calledAtOnce = new Set(
  'forEach map filter find findIndex findLast some every flatMap reduce reduceRight sort toSorted replace replaceAll from register after'.split(
    ' ',
  ),
)

/**
 * @param fileOf the file that a specifier leads to, if it is one of the app's
 */
export function graphOf(trees: readonly Tree[], fileOf: (tree: Tree, specifier: string) => string | undefined): Graph {
  const byFile = new Map(trees.map((tree) => [tree.source.file, tree]))
  const uses = new Map<Binding, { tree: Tree; node: Node }[]>()
  const lasting = new Set<Body>()

  function follow(tree: Tree, { from, name }: Imported, seen = new Set<string>()): Origin {
    const file = fileOf(tree, from)
    const target = file === undefined ? undefined : byFile.get(file)
    if (target !== undefined) return name === '*' ? { from: file!, path: [] } : exportOf(target, name, seen)
    return from.startsWith('.') ? undefined : { from, path: name === '*' ? [] : [name] }
  }

  function exportOf(target: Tree, name: string, seen = new Set<string>()): Origin {
    const key = `${target.source.file}\n${name}`
    if (seen.has(key)) return undefined
    seen.add(key)
    const found = target.exports.get(name)
    if (found === undefined) {
      for (const [of, star] of target.exports) {
        const origin = of.startsWith('*') ? follow(target, { ...(star as Imported), name }, seen) : undefined
        if (origin !== undefined && !('from' in origin)) return origin
      }
      return undefined
    }
    if (!('type' in found)) return follow(target, found, seen)
    const binding = target.bindingOf(found)
    if (binding?.imported) return follow(target, binding.imported, seen)
    return binding ? { own: binding } : { exported: found, tree: target }
  }

  function originOf(tree: Tree, node: Node, depth = 0): Origin {
    if (depth > 8) return undefined
    if (node.type === 'ChainExpression' || node.type === 'ParenthesizedExpression') {
      return originOf(tree, node.expression as Node, depth + 1)
    }
    if (node.type === 'AwaitExpression' && node.argument.type === 'ImportExpression') {
      const { source } = node.argument
      return source.type === 'Literal' ? follow(tree, { from: String(source.value), name: '*' }) : undefined
    }
    if (node.type === 'Identifier') {
      const binding = tree.bindingOf(node)
      if (binding === undefined) return { global: node.name, path: [] }
      if (binding.imported) return follow(tree, binding.imported)
      const { init } = binding
      const isAlias =
        init?.type === 'Identifier' || init?.type === 'MemberExpression' || init?.type === 'AwaitExpression'
      if (binding.kind === 'const' && isAlias) {
        const origin = originOf(tree, init, depth + 1)
        if (origin && ('from' in origin || 'global' in origin)) return origin
      }
      return { own: binding }
    }
    if (node.type === 'MemberExpression' && !node.computed) {
      const origin = originOf(tree, node.object as Node, depth + 1)
      const name = nameOf(node.property as Node)
      if (origin === undefined || 'own' in origin || 'exported' in origin) return undefined
      const file = 'from' in origin && origin.path.length === 0 ? byFile.get(origin.from) : undefined
      if (file) return exportOf(file, name)
      return { ...origin, path: [...origin.path, name] }
    }
    return undefined
  }

  function ownOf(tree: Tree, node: Node): Binding | undefined {
    const origin = originOf(tree, node)
    return origin && 'own' in origin ? origin.own : undefined
  }

  /** The function or class that an expression stands for. */
  function codeOf(tree: Tree, node: Node): { tree: Tree; code: FunctionNode | Class } | undefined {
    if (isFunction(node) || isClass(node)) return { tree, code: node }
    const origin = originOf(tree, node)
    if (origin === undefined || 'from' in origin || 'global' in origin) return undefined
    const [of, found] = 'own' in origin ? [origin.own.tree, origin.own.init] : [origin.tree, origin.exported]
    return isFunction(found) || isClass(found) ? { tree: of, code: found } : undefined
  }

  function runOf(tree: Tree, node: Node): Body {
    for (let home = homeOf(tree, node); ; home = homeOf(tree, home)) {
      if (!isFunction(home) || !isCalledAtOnce(tree, home)) return home
    }
  }

  function isCalledAtOnce(tree: Tree, fn: FunctionNode): boolean {
    const up = tree.parent(fn)
    if (up?.type !== 'CallExpression') return false
    if (up.callee === fn) return true
    const { callee } = up
    return callee.type === 'MemberExpression' && !callee.computed && calledAtOnce.has(nameOf(callee.property as Node))
  }

  const isLasting = (body: Body) => body.type === 'Program' || lasting.has(body)
  const runsAtStart = (tree: Tree, node: Node) => isLasting(runOf(tree, node))

  /** Whether a function is called, and only from where its callers also run only at a start. A circle is no other way to be called. */
  function onlyAtStart(tree: Tree, fn: FunctionNode, within?: Body, seen = new Set<Body>(within && [within])): boolean {
    if (roots.has(fn) || isCalledAtOnce(tree, fn)) return true
    if (seen.has(fn)) return true
    seen.add(fn)
    const id = nameGiven(tree, fn)
    const binding = id ? tree.bindingOf(id) : undefined
    if (binding === undefined) return isMethodOfStart(tree, fn)
    return usesOf(binding).every(({ tree: of, node }) => {
      const up = of.parent(node)
      const isCall = (up?.type === 'CallExpression' || up?.type === 'NewExpression') && up.callee === node
      // A member of a class is another matter than its constructor.
      if (!isCall)
        return up?.type === 'ExportNamedDeclaration' || (isClass(binding.init) && up?.type === 'MemberExpression')
      const run = runOf(of, node)
      return run === within || !isFunction(run) || onlyAtStart(of, run, within, seen)
    })
  }

  /** The name by which a function is called: its own, that of a variable, or that of the class which it constructs. */
  function nameGiven(tree: Tree, fn: FunctionNode): Node | undefined {
    if (fn.type === 'FunctionDeclaration') return fn.id ?? undefined
    const up = tree.parent(fn)
    if (up?.type === 'VariableDeclarator') return up.id
    if (up?.type !== 'MethodDefinition' || up.kind !== 'constructor') return undefined
    const of = tree.parent(tree.parent(up)!)
    return isClass(of) ? (of.id ?? undefined) : undefined
  }

  /** A method whose name nothing mentions in code that runs later, such as `add` of a registry that is filled at the start. */
  function isMethodOfStart(tree: Tree, fn: FunctionNode): boolean {
    const up = tree.parent(fn)
    if (up?.type !== 'MethodDefinition' && up?.type !== 'Property' && up?.type !== 'PropertyDefinition') return false
    if (up.computed) return false
    const name = nameOf(up.key as Node)
    return !laterNames().has(name) && startNames.has(name)
  }

  let later: Set<string> | undefined
  const startNames = new Set<string>()
  function laterNames(): Set<string> {
    if (later) return later
    later = new Set()
    for (const tree of trees) {
      for (const node of tree.nodes) {
        if (node.type !== 'MemberExpression' || node.computed) continue
        const run = runOf(tree, node)
        const name = nameOf(node.property as Node)
        if (run.type === 'Program' || roots.has(run)) startNames.add(name)
        else later.add(name)
      }
    }
    return later
  }

  function usesOf(binding: Binding): { tree: Tree; node: Node }[] {
    return uses.get(binding) ?? []
  }

  for (const tree of trees) {
    for (const node of tree.nodes) {
      if (node.type !== 'Identifier' && node.type !== 'MemberExpression') continue
      if (node.type === 'Identifier' && tree.bindingOf(node)?.id === node) continue
      const own = ownOf(tree, node)
      if (own === undefined) continue
      const list = uses.get(own)
      if (list) list.push({ tree, node })
      else uses.set(own, [{ tree, node }])
    }
  }

  const roots = new Set<Body>()
  const calls: { tree: Tree; node: Node; code: FunctionNode | Class }[] = []
  for (const tree of trees) {
    for (const node of tree.nodes) {
      if (node.type !== 'CallExpression' && node.type !== 'NewExpression') continue
      const origin = originOf(tree, node.callee as Node)
      const found = codeOf(tree, node.callee as Node)
      if (found) calls.push({ tree, node, code: found.code })
      if (!origin || !('from' in origin) || origin.from !== 'rung' || origin.path[0] !== 'defineModule') continue
      const [definition] = node.arguments
      if (definition?.type !== 'ObjectExpression') continue
      for (const property of definition.properties) {
        if (property.type !== 'Property' || !setUpNames.has(nameOf(property.key as Node))) continue
        const setUp = codeOf(tree, property.value as Node)
        if (setUp) roots.add(setUp.code)
      }
    }
  }
  for (const root of roots) lasting.add(root)
  for (let known = -1; known !== lasting.size; ) {
    known = lasting.size
    for (const { tree, node, code } of calls) {
      if (!runsAtStart(tree, node)) continue
      lasting.add(code)
      for (const method of isClass(code) ? (code.body.body as Node[]) : []) {
        if (method.type === 'MethodDefinition' && method.kind === 'constructor')
          lasting.add(method.value as FunctionNode)
      }
    }
  }

  return {
    ...{ trees, originOf, ownOf, usesOf, runsAtStart, onlyAtStart, runOf },
    lasts: isLasting,
    isSetUp: (body) => roots.has(body),
  }
}
