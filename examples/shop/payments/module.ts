import { cron, defineJob, defineModule, handle } from 'rung'
import { Type } from 'typebox'
import { failures } from '../schemas.ts'
import { charge, reverse } from './contract.ts'
import { askProvider, forgetEvents, takeEvent } from './payments.ts'
import { Charge, paymentProvider } from './provider.ts'
import { signedWith } from './signature.ts'

const forget = defineJob('payments.forget-events', Type.Object({}))
const ProviderEvent = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }), charge: Charge })

/** Payments through an outside provider. Its answer and its webhook say the same; whichever comes first settles the payment. */
export const payments = defineModule({
  name: 'payments',
  owner: 'payments',
  migrations: new URL('./migrations/', import.meta.url),

  work({ data }) {
    const provider = paymentProvider()
    return [
      handle(charge, (payment, run) => askProvider(data, run, payment, () => provider.charge(payment))),
      handle(reverse, (payment, run) => askProvider(data, run, payment, () => provider.reverse(payment))),
      cron('17 3 * * *', forget, {}),
      handle(forget, (_, run) => run.complete(forgetEvents)),
    ]
  },

  routes(http, { data }) {
    http.post(
      '/payments/webhook',
      {
        ...signedWith(process.env.SHOP_PROVIDER_SECRET),
        config: { limits: false, priority: 'critical' }, // the provider sends them all from a few addresses
        bodyLimit: 16_384,
        schema: {
          operationId: 'ReceiveProviderEvent',
          headers: Type.Object({ signature: Type.Optional(Type.String()) }),
          body: ProviderEvent,
          response: { 204: Type.Null(), ...failures },
        },
      },
      async (request, reply) => {
        await takeEvent(data, request.body)
        return reply.status(204).send(null)
      },
    )
  },
})
