import { defineModule } from 'rung'
import { Type } from 'typebox'
import { only, principalFor, shopOf } from '../caller.ts'
import { failures, Name, security } from '../schemas.ts'
import { addCustomer, openShop, ownerOf } from './keys.ts'

const Named = Type.Object({ name: Name })
const Opened = Type.Object({ id: Type.Integer(), key: Type.String() })

/** Shops, their customers, and the keys of both. */
export const tenants = defineModule({
  name: 'tenants',
  owner: 'accounts',
  migrations: new URL('./migrations/', import.meta.url),

  identify:
    ({ data }) =>
    async ({ headers }) => {
      const caller = await ownerOf(data, headers.authorization)
      return caller && principalFor(caller)
    },

  routes(http, { data }) {
    http.post(
      '/shops',
      {
        config: { limits: { max: 100, per: '1h', by: 'address' } },
        schema: { operationId: 'OpenShop', body: Named, response: { 201: Opened, ...failures } },
      },
      async ({ body }, reply) => reply.status(201).send(await openShop(data, body.name)),
    )

    http.post(
      '/customers',
      {
        ...only(shopOf),
        schema: { operationId: 'AddCustomer', security, body: Named, response: { 201: Opened, ...failures } },
      },
      async (request, reply) => {
        const { tenantId } = await shopOf(request)
        return reply.status(201).send(await addCustomer(data, tenantId, request.body.name))
      },
    )
  },
})
