import { type Data, RungError, sql } from 'rung'
import type { Static } from 'typebox'
import type { NewProduct, Product } from './shapes.ts'

type ProductRow = Static<typeof Product>

/** More than any shop has; keeps sums within a bigint. */
const availableMax = 1e12

const columns = sql`sku, name, price, currency, available`

export async function putProduct(
  data: Data,
  tenantId: number,
  sku: string,
  { name, price, currency }: Static<typeof NewProduct>,
): Promise<ProductRow> {
  const [row] = await data.write(
    (tx) => tx<ProductRow>`
      insert into sales.product (tenant_id, sku, name, price, currency)
      values (${tenantId}, ${sku}, ${name}, ${price}, ${currency})
      on conflict (tenant_id, sku) do update set name = excluded.name, price = excluded.price, currency = excluded.currency
      returning ${columns}`,
  )
  return row!
}

/** Adds to what is available, or takes away from it. */
export async function changeStock(data: Data, tenantId: number, sku: string, change: number): Promise<ProductRow> {
  return data.write(async (tx) => {
    const [row] = await tx<ProductRow>`
      update sales.product set available = available + ${change}::bigint
      where tenant_id = ${tenantId} and sku = ${sku} and available + ${change}::bigint between 0 and ${availableMax}::bigint
      returning ${columns}`
    if (row) return row
    const [known] = await tx<ProductRow>`
      select ${columns} from sales.product where tenant_id = ${tenantId} and sku = ${sku}`
    if (!known) throw missing(sku)
    throw new RungError('HTTP_CONFLICT', `"${sku}" has ${known.available} available, which cannot change by ${change}.`)
  })
}

export async function findProduct(data: Data, tenantId: number, sku: string): Promise<ProductRow> {
  const [row] = await data.read(
    (sql) => sql<ProductRow>`select ${columns} from sales.product where tenant_id = ${tenantId} and sku = ${sku}`,
  )
  if (!row) throw missing(sku)
  return row
}

export async function listProducts(
  data: Data,
  tenantId: number,
  { after, limit }: { after: string; limit: number },
): Promise<ProductRow[]> {
  return data.read(
    (sql) => sql<ProductRow>`
      select ${columns} from sales.product where tenant_id = ${tenantId} and sku > ${after} order by sku limit ${limit}`,
  )
}

const missing = (sku: string) => new RungError('HTTP_NOT_FOUND', `There is no product "${sku}".`)
