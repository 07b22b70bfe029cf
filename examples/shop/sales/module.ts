import { defineModule, handle, on } from 'rung'
import { Type } from 'typebox'
import { callerOf, customerOf, only, shopOf } from '../caller.ts'
import { PaymentChanged } from '../payments/contract.ts'
import { failures, OrderId, Paging, security } from '../schemas.ts'
import { entriesOf } from './ledger.ts'
import {
  cancelOrder,
  expire,
  expireOrder,
  findOrder,
  listOrders,
  placeOrder,
  present,
  settleOrder,
  shipOrder,
} from './orders.ts'
import { changeStock, findProduct, listProducts, putProduct } from './products.ts'
import { Entry, NewOrder, NewProduct, Order, Product, Sku, StockChange } from './shapes.ts'

const BySku = Type.Object({ sku: Sku })
const ById = Type.Object({ id: OrderId })

/** Products, their stock, orders and the ledger: what one transaction must change together. */
export const sales = defineModule({
  name: 'sales',
  owner: 'sales',
  migrations: new URL('./migrations/', import.meta.url),

  work: () => [
    handle(expire, ({ orderId }, run) => run.complete((tx) => expireOrder(tx, orderId))),
    on(PaymentChanged, ({ payload }, tx) => settleOrder(tx, payload.orderId, payload.state)),
  ],

  routes(http, { data }) {
    http.put(
      '/products/:sku',
      {
        ...only(shopOf),
        schema: {
          operationId: 'PutProduct',
          security,
          params: BySku,
          body: NewProduct,
          response: { 200: Product, ...failures },
        },
      },
      async (request) => putProduct(data, (await shopOf(request)).tenantId, request.params.sku, request.body),
    )

    http.post(
      '/products/:sku/stock',
      {
        ...only(shopOf),
        config: { idempotency: 'required' }, // a change that is sent twice must not count twice
        schema: {
          operationId: 'ChangeStock',
          security,
          params: BySku,
          body: StockChange,
          response: { 200: Product, ...failures },
        },
      },
      async (request) => changeStock(data, (await shopOf(request)).tenantId, request.params.sku, request.body.change),
    )

    http.get(
      '/products',
      {
        ...only(callerOf),
        schema: {
          operationId: 'ListProducts',
          security,
          querystring: Type.Object({
            after: Type.String({ maxLength: 64, default: '' }),
            limit: Paging.properties.limit,
          }),
          response: { 200: Type.Object({ products: Type.Array(Product) }), ...failures },
        },
      },
      async (request) => ({ products: await listProducts(data, (await callerOf(request)).tenantId, request.query) }),
    )

    http.get(
      '/products/:sku',
      {
        ...only(callerOf),
        schema: { operationId: 'GetProduct', security, params: BySku, response: { 200: Product, ...failures } },
      },
      async (request) => findProduct(data, (await callerOf(request)).tenantId, request.params.sku),
    )

    http.post(
      '/orders',
      {
        ...only(customerOf),
        config: { idempotency: 'required', priority: 'critical' },
        schema: { operationId: 'PlaceOrder', security, body: NewOrder, response: { 201: Order, ...failures } },
      },
      async (request, reply) => {
        const order = await placeOrder(data, await customerOf(request), request.body)
        return reply.status(201).send(present(order))
      },
    )

    http.get(
      '/orders',
      {
        ...only(callerOf),
        schema: {
          operationId: 'ListOrders',
          security,
          querystring: Paging,
          response: { 200: Type.Object({ orders: Type.Array(Order) }), ...failures },
        },
      },
      async (request) => ({
        orders: (await listOrders(data, await callerOf(request), request.query)).map(present),
      }),
    )

    const one = { security, params: ById, response: { 200: Order, ...failures } }
    http.get('/orders/:id', { ...only(callerOf), schema: { operationId: 'GetOrder', ...one } }, async (request) =>
      present(await findOrder(data, await callerOf(request), request.params.id)),
    )
    http.post(
      '/orders/:id/cancel',
      { ...only(callerOf), config: { idempotency: 'optional' }, schema: { operationId: 'CancelOrder', ...one } },
      async (request) => present(await cancelOrder(data, await callerOf(request), request.params.id)),
    )
    http.post(
      '/orders/:id/ship',
      { ...only(shopOf), config: { idempotency: 'optional' }, schema: { operationId: 'ShipOrder', ...one } },
      async (request) => present(await shipOrder(data, await shopOf(request), request.params.id)),
    )

    http.get(
      '/ledger',
      {
        ...only(shopOf),
        schema: {
          operationId: 'ListEntries',
          security,
          querystring: Paging,
          response: { 200: Type.Object({ entries: Type.Array(Entry) }), ...failures },
        },
      },
      async (request) => ({ entries: await entriesOf(data, (await shopOf(request)).tenantId, request.query) }),
    )
  },
})
