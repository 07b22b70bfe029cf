import type { Client } from '../engines/postgres/client.ts'

/** How Postgres would run a statement. */
export interface Plan {
  cost: number
  /** Names of the indexes used. */
  indexes: Set<string>
  /** The step that costs most by itself: `Seq Scan on articles.article`. */
  heaviest: string
}

interface PlanNode {
  'Node Type': string
  'Total Cost': number
  'Relation Name'?: string
  'Index Name'?: string
  Plans?: PlanNode[]
}

/** Plans a statement without its values, and without running it. */
export async function explain(client: Client, text: string): Promise<Plan> {
  const { rows } = await client.query(`explain (generic_plan, format json) ${text}`)
  const root: PlanNode = rows[0]['QUERY PLAN'][0].Plan
  const nodes = flat(root)
  const [top] = nodes.sort((a, b) => ownCost(b) - ownCost(a))
  const relation = top!['Relation Name']
  return {
    cost: root['Total Cost'],
    indexes: new Set(nodes.flatMap((node) => node['Index Name'] ?? [])),
    heaviest: `${top!['Node Type']}${relation === undefined ? '' : ` on ${relation}`}`,
  }
}

function flat(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flat)]
}

function ownCost(node: PlanNode): number {
  return node['Total Cost'] - (node.Plans ?? []).reduce((sum, child) => sum + child['Total Cost'], 0)
}
