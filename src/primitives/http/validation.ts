import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'

/**
 * Validators by part of the request. Text of the query, the path and the headers is converted to what the schema asks
 * for; a JSON body has types of its own and is taken as it is: `{"title": 5}` is wrong where a string is asked for.
 * The first error ends the check: collecting all of them would let a large body cost much more than reading it.
 */
export function validatorCompiler(): FastifySchemaCompiler<object> {
  const common = {
    useDefaults: true,
    removeAdditional: false,
    allErrors: false,
    strict: false,
    verbose: true, // an error says what it found: nothing, or something of another kind
  } as const
  const body = withFormats(new Ajv({ ...common, coerceTypes: false }))
  const text = withFormats(new Ajv({ ...common, coerceTypes: 'array' }))
  return ({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema)
}

function withFormats(ajv: Ajv): Ajv {
  formats.default(ajv)
  return ajv
}
