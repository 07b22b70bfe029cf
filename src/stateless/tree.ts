import type { Identifier, AnyNode as Node, Program } from 'acorn'
import type { Parsed, Source } from './parse.ts'

export type { Identifier, Node }

type Of<Type extends Node['type']> = Extract<Node, { type: Type }>
export type FunctionNode = Of<'FunctionDeclaration' | 'FunctionExpression' | 'ArrowFunctionExpression'>
export type Class = Of<'ClassDeclaration' | 'ClassExpression'>

/** What runs as a whole: a file, a function, or the initialisers of an instance, which stand for their class. */
export type Body = Program | FunctionNode | Class

/** A name, and everything in its file that mentions it. */
export interface Binding {
  readonly tree: Tree
  readonly name: string
  readonly kind: 'import' | 'param' | 'function' | 'class' | 'const' | 'let' | 'var'
  readonly id: Identifier
  /** A new one exists for each run of this. */
  readonly home: Body
  /** Its first value: an expression, a function or a class. */
  readonly init: Node | undefined
  /** What its pattern takes apart. */
  readonly takenFrom: Node | undefined
  readonly imported: Imported | undefined
  readonly uses: Identifier[]
}

/** `name` is `*` for the whole module. */
export interface Imported {
  readonly from: string
  readonly name: string
}

/** One file: its syntax, and what its names mean. */
export interface Tree {
  readonly source: Source
  readonly parsed: Parsed
  readonly nodes: readonly Node[]
  parent(node: Node): Node | undefined
  bindingOf(identifier: Node): Binding | undefined
  readonly bindings: readonly Binding[]
  /** By exported name; `*` in front of a specifier is all that another file exports. */
  readonly exports: ReadonlyMap<string, Node | Imported>
  /** Specifiers of all imports. */
  readonly imports: ReadonlySet<string>
  lineOf(node: { start: number }): number
}

interface Scope {
  readonly names: Map<string, Binding>
  readonly outer: Scope | undefined
  /** `var` and functions belong to the next of these. */
  readonly home: Body | undefined
}

export function treeOf(source: Source, parsed: Parsed): Tree {
  const parents = new Map<Node, Node>()
  const nodes: Node[] = []
  const bindings: Binding[] = []
  const meanings = new Map<Node, Binding>()
  const pending: [Identifier, Scope][] = []
  const exports = new Map<string, Node | Imported>()
  const imports = new Set<string>()
  const lineStarts = [0, ...[...source.text.matchAll(/\n/g)].map(({ index }) => index + 1)]

  const tree: Tree = {
    source,
    parsed,
    nodes,
    bindings,
    exports,
    imports,
    parent: (node) => parents.get(node),
    bindingOf: (identifier) => meanings.get(identifier),
    lineOf: ({ start }) => lineStarts.findLastIndex((at) => at <= start) + 1,
  }

  function declare(id: Identifier, scope: Scope, kind: Binding['kind'], more: Partial<Binding> = {}): void {
    let of = scope
    if (kind === 'var') while (of.home === undefined) of = of.outer!
    let holder = scope
    while (holder.home === undefined) holder = holder.outer!
    const known = of.names.get(id.name)
    const binding: Binding = known ?? {
      ...{
        tree,
        name: id.name,
        kind,
        id,
        home: holder.home,
        uses: [],
        init: undefined,
        takenFrom: undefined,
        imported: undefined,
      },
      ...more,
    }
    if (known === undefined) bindings.push(binding)
    of.names.set(id.name, binding)
    meanings.set(id, binding)
  }

  /** Names of a pattern; its defaults and computed keys are expressions. */
  function declarePattern(node: Node, scope: Scope, kind: Binding['kind'], more: Partial<Binding> = {}): void {
    note(node)
    const inner = { takenFrom: more.init ?? more.takenFrom }
    if (node.type === 'Identifier') declare(node, scope, kind, more)
    else if (node.type === 'Property') {
      if (node.computed) visit(node.key, scope)
      declarePattern(node.value, scope, kind, inner)
    } else if (node.type === 'AssignmentPattern') {
      declarePattern(node.left, scope, kind, inner)
      visit(node.right, scope)
    } else for (const child of childrenOf(node)) declarePattern(child, scope, kind, inner)
  }

  function visitAll(list: readonly (Node | null | undefined)[], scope: Scope): void {
    for (const one of list) if (one) visit(one, scope)
  }

  /** Notes a node and whose child each of its children is. */
  function note(node: Node): void {
    nodes.push(node)
    for (const child of childrenOf(node)) parents.set(child, node)
  }

  const within = (outer: Scope, home?: Body): Scope => ({ names: new Map(), outer, home })

  function visit(node: Node, scope: Scope): void {
    note(node)
    const special = visitors[node.type] as ((node: Node, scope: Scope) => void) | undefined
    if (special) special(node, scope)
    else visitAll(childrenOf(node), scope)
  }

  function visitFunction(node: FunctionNode, scope: Scope): void {
    const inside = within(scope, node)
    const isDeclared = node.type === 'FunctionDeclaration'
    if (node.id) declare(node.id, isDeclared ? scope : inside, 'function', { init: node as Node })
    for (const param of node.params as Node[]) declarePattern(param, inside, 'param')
    const body = node.body as Node
    if (body.type !== 'BlockStatement') visit(body, inside)
    else {
      note(body)
      visitAll(body.body, inside)
    }
  }

  function visitClass(node: Class, scope: Scope): void {
    const of = node.type === 'ClassDeclaration' ? scope : within(scope)
    if (node.id) declare(node.id, of, 'class', { init: node as Node })
    if (node.superClass) visit(node.superClass as Node, of)
    note(node.body)
    for (const member of node.body.body as Node[]) {
      note(member)
      if (member.type === 'StaticBlock') visitAll(member.body, within(of))
      if (member.type !== 'MethodDefinition' && member.type !== 'PropertyDefinition') continue
      if (member.computed) visit(member.key as Node, of)
      const ofInstance = member.type === 'PropertyDefinition' && !member.static
      if (member.value) visit(member.value as Node, ofInstance ? within(of, node) : of)
    }
  }

  function visitImport({ source: { value }, specifiers }: Of<'ImportDeclaration'>, scope: Scope): void {
    const from = String(value)
    imports.add(from)
    for (const one of specifiers) {
      const whole = one.type === 'ImportDefaultSpecifier' ? 'default' : '*'
      const name = one.type === 'ImportSpecifier' ? nameOf(one.imported) : whole
      declare(one.local, scope, 'import', { imported: { from, name } })
    }
  }

  function visitExport({ source: of, specifiers, declaration }: Of<'ExportNamedDeclaration'>, scope: Scope): void {
    const from = of ? String(of.value) : undefined
    if (from !== undefined) imports.add(from)
    for (const { exported, local } of specifiers) {
      exports.set(nameOf(exported), from === undefined ? local : { from, name: nameOf(local) })
      if (from === undefined) pending.push([local as Identifier, scope])
    }
    if (!declaration) return
    visit(declaration, scope)
    const isVariable = declaration.type === 'VariableDeclaration'
    const ids = isVariable ? declaration.declarations.flatMap(({ id }) => identifiersIn(id)) : [declaration.id]
    for (const id of ids) exports.set(id.name, id)
  }

  const visitBlock = (node: Node, scope: Scope) => visitAll(childrenOf(node), within(scope))
  const skip = () => {}
  const visitors: { [Type in Node['type']]?: (node: Of<Type>, scope: Scope) => void } = {
    Program: (node) => visitAll(node.body, { names: new Map(), outer: undefined, home: node }),
    Identifier: (node, scope) => pending.push([node, scope]),
    FunctionDeclaration: visitFunction,
    FunctionExpression: visitFunction,
    ArrowFunctionExpression: visitFunction,
    ClassDeclaration: visitClass,
    ClassExpression: visitClass,
    VariableDeclaration({ kind, declarations }, scope) {
      for (const one of declarations) {
        note(one)
        declarePattern(one.id, scope, kind as 'const', { init: one.init ?? undefined })
        if (one.init) visit(one.init, scope)
      }
    },
    CatchClause({ param, body }, scope) {
      const block = within(scope)
      if (param) declarePattern(param, block, 'let')
      visit(body, block)
    },
    ImportDeclaration: visitImport,
    ImportExpression({ source: of }, scope) {
      if (of.type === 'Literal') imports.add(String(of.value))
      visit(of, scope)
    },
    ExportNamedDeclaration: visitExport,
    // `export * as all from` is a name like others; without one it is all names.
    ExportAllDeclaration({ source: { value }, exported }) {
      const from = String(value)
      imports.add(from)
      exports.set(exported ? nameOf(exported) : `*${from}`, { from, name: '*' })
    },
    ExportDefaultDeclaration({ declaration }, scope) {
      visit(declaration, scope)
      const isNamed = declaration.type === 'FunctionDeclaration' || declaration.type === 'ClassDeclaration'
      exports.set('default', (isNamed && declaration.id) || declaration)
    },
    MemberExpression({ object, property, computed }, scope) {
      visit(object, scope)
      if (computed) visit(property, scope)
    },
    Property({ key, value, computed }, scope) {
      if (computed) visit(key, scope)
      visit(value, scope)
    },
    LabeledStatement: ({ body }, scope) => visit(body, scope),
    BreakStatement: skip,
    ContinueStatement: skip,
    MetaProperty: skip,
    BlockStatement: visitBlock,
    ForStatement: visitBlock,
    ForInStatement: visitBlock,
    ForOfStatement: visitBlock,
    SwitchStatement: visitBlock,
  }

  visit(parsed.program, { names: new Map(), outer: undefined, home: parsed.program })
  for (const [identifier, scope] of pending) {
    let at: Scope | undefined = scope
    while (at && !at.names.has(identifier.name)) at = at.outer
    const binding = at?.names.get(identifier.name)
    if (binding === undefined) continue
    meanings.set(identifier, binding)
    binding.uses.push(identifier)
  }
  return tree
}

export function childrenOf(node: Node): Node[] {
  return Object.values(node).flatMap((value) => {
    if (Array.isArray(value)) return value.filter(isNode)
    return isNode(value) ? [value] : []
  })
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string'
}

function identifiersIn(pattern: Node): Identifier[] {
  if (pattern.type === 'Identifier') return [pattern]
  if (pattern.type === 'Property') return identifiersIn(pattern.value as Node)
  if (pattern.type === 'AssignmentPattern') return identifiersIn(pattern.left as Node)
  return childrenOf(pattern).flatMap(identifiersIn)
}

/** The name of a key or of a specifier. */
export function nameOf(key: Node): string {
  if (key.type === 'Identifier') return key.name
  if (key.type === 'PrivateIdentifier') return `#${key.name}`
  return key.type === 'Literal' ? String(key.value) : ''
}

export function isFunction(node: Node | undefined): node is FunctionNode {
  return (
    node?.type === 'FunctionDeclaration' ||
    node?.type === 'FunctionExpression' ||
    node?.type === 'ArrowFunctionExpression'
  )
}

export function isClass(node: Node | undefined): node is Class {
  return node?.type === 'ClassDeclaration' || node?.type === 'ClassExpression'
}

/** What must run for this node to run: the function around it, the class whose fields it initialises, or the file. */
export function homeOf(tree: Tree, node: Node): Body {
  for (let at = node, up = tree.parent(at); ; at = up, up = tree.parent(at)) {
    if (up === undefined) return tree.parsed.program
    if (isFunction(up) || up.type === 'Program') return up
    if (up.type === 'PropertyDefinition' && !up.static && up.value === at) {
      const found = tree.parent(tree.parent(up)!)!
      if (isClass(found)) return found
    }
  }
}
