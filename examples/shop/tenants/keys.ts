import { createHash, randomBytes } from 'node:crypto'
import type { Data } from 'rung'
import type { Caller } from '../caller.ts'

const digestOf = (key: string) => createHash('sha256').update(key).digest()
const newKey = () => randomBytes(32).toString('base64url')

/** A new shop, with the only copy of its key. */
export async function openShop(data: Data, name: string): Promise<{ id: number; key: string }> {
  const key = newKey()
  const [tenant] = await data.write(
    (tx) => tx<{ id: number }>`
      with tenant as (insert into tenants.tenant (name) values (${name}) returning id)
      insert into tenants.api_key (digest, tenant_id) select ${digestOf(key)}, id from tenant returning tenant_id as id`,
  )
  return { id: tenant!.id, key }
}

/** A new customer of a shop, with the only copy of their key. */
export async function addCustomer(data: Data, tenantId: number, name: string): Promise<{ id: number; key: string }> {
  const key = newKey()
  const [customer] = await data.write(
    (tx) => tx<{ id: number }>`
      with customer as (insert into tenants.customer (tenant_id, name) values (${tenantId}, ${name}) returning id)
      insert into tenants.api_key (digest, tenant_id, customer_id) select ${digestOf(key)}, ${tenantId}, id from customer
      returning customer_id as id`,
  )
  return { id: customer!.id, key }
}

/** Whose key an `Authorization` header contains. */
export async function ownerOf(data: Data, authorization: string | undefined): Promise<Caller | undefined> {
  const [, key] = /^Token ([\w-]{43})$/.exec(authorization ?? '') ?? []
  if (key === undefined) return undefined
  const [row] = await data.read(
    (sql) => sql<{ tenant_id: number; customer_id: number | null }>`
      select tenant_id, customer_id from tenants.api_key where digest = ${digestOf(key)}`,
  )
  return row && { tenantId: row.tenant_id, customerId: row.customer_id ?? undefined }
}
