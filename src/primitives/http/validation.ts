import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'

/**
 * Returns Fastify's validator compiler. Text of the query, the path and the headers is converted to the type in the schema; a JSON body is
 * not, so `{"title": 5}` is wrong where the schema has a string. The first error ends the check: collecting all of them would cost much
 * more than reading a large body.
 */
export function validatorCompiler(): FastifySchemaCompiler<object> {
  const common = {
    useDefaults: true,
    removeAdditional: false,
    allErrors: false,
    strict: false,
    verbose: true, // errors contain the wrong value; see `reason` in problem.ts
  } as const
  const body = withFormats(new Ajv({ ...common, coerceTypes: false }))
  const text = withFormats(new Ajv({ ...common, coerceTypes: 'array' }))
  return ({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema)
}

function withFormats(ajv: Ajv): Ajv {
  formats.default(ajv)
  return ajv
}
