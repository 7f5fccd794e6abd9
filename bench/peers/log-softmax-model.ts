// The ONNX model of the onnxruntime peer: y = GatherElements(LogSoftmax(x, axis -1), i, axis 1), x [T, V] f32,
// i [T, 1] i64, y [T, 1] f32. It is small enough to write its protobuf fields by hand (field numbers: onnx.proto3).

const FLOAT = 1; // TensorProto.DataType
const INT64 = 7;
const ATTRIBUTE_INT = 2; // AttributeProto.AttributeType
const IR_VERSION = 8;
const OPSET = 17;

/** @typedef {number[]} Bytes */

/** @param {bigint} value @returns {Bytes} */
function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** @param {number} field @param {number} value @returns {Bytes} */
const integer = (field, value) => [...varint(BigInt(field << 3)), ...varint(BigInt(value))];

/** @param {number} field @param {Bytes} content @returns {Bytes} */
const message = (field, content) => [
  ...varint(BigInt((field << 3) | 2)),
  ...varint(BigInt(content.length)),
  ...content,
];

/** @param {number} field @param {string} value */
const text = (field, value) => message(field, [...Buffer.from(value)]);

/** @param {string} opType @param {string[]} inputs @param {string} output @param {number} axis */
function node(opType, inputs, output, axis) {
  const attribute = [...text(1, 'axis'), ...integer(3, axis), ...integer(20, ATTRIBUTE_INT)];
  const names = inputs.flatMap((name) => text(1, name));
  return message(1, [...names, ...text(2, output), ...text(4, opType), ...message(5, attribute)]);
}

/** @param {number} field @param {string} name @param {number} type @param {(string | number)[]} dimensions */
function tensor(field, name, type, dimensions) {
  const shape = dimensions.flatMap((d) => message(1, typeof d === 'string' ? text(2, d) : integer(1, d)));
  const tensorType = message(1, [...integer(1, type), ...message(2, shape)]);
  return message(field, [...text(1, name), ...message(2, tensorType)]);
}

/** The serialized ModelProto. */
export function logSoftmaxModel() {
  const graph = [
    ...node('LogSoftmax', ['x'], 'l', -1),
    ...node('GatherElements', ['l', 'i'], 'y', 1),
    ...text(2, 'g'),
    ...tensor(11, 'x', FLOAT, ['T', 'V']),
    ...tensor(11, 'i', INT64, ['T', 1]),
    ...tensor(12, 'y', FLOAT, ['T', 1]),
  ];
  const opset = [...text(1, ''), ...integer(2, OPSET)];
  return Uint8Array.from([...integer(1, IR_VERSION), ...message(7, graph), ...message(8, opset)]);
}
