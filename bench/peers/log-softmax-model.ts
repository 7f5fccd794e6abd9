// The ONNX model of the onnxruntime peer: y = GatherElements(LogSoftmax(x, axis -1), i, axis 1), x [T, V] f32,
// i [T, 1] i64, y [T, 1] f32. It is small enough to write its protobuf fields by hand (field numbers: onnx.proto3).

const FLOAT = 1; // TensorProto.DataType
const INT64 = 7;
const ATTRIBUTE_INT = 2; // AttributeProto.AttributeType
const IR_VERSION = 8;
const OPSET = 17;

type Bytes = number[];

function varint(value: bigint): Bytes {
  const bytes: Bytes = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

const integer = (field: number, value: number): Bytes => [...varint(BigInt(field << 3)), ...varint(BigInt(value))];

const message = (field: number, content: Bytes): Bytes => [
  ...varint(BigInt((field << 3) | 2)),
  ...varint(BigInt(content.length)),
  ...content,
];

const text = (field: number, value: string) => message(field, [...Buffer.from(value)]);

function node(opType: string, inputs: readonly string[], output: string, axis: number): Bytes {
  const attribute = [...text(1, 'axis'), ...integer(3, axis), ...integer(20, ATTRIBUTE_INT)];
  const names = inputs.flatMap((name) => text(1, name));
  return message(1, [...names, ...text(2, output), ...text(4, opType), ...message(5, attribute)]);
}

function tensor(field: number, name: string, type: number, dimensions: readonly (string | number)[]): Bytes {
  const shape = dimensions.flatMap((d) => message(1, typeof d === 'string' ? text(2, d) : integer(1, d)));
  const tensorType = message(1, [...integer(1, type), ...message(2, shape)]);
  return message(field, [...text(1, name), ...message(2, tensorType)]);
}

/** The serialized ModelProto. */
export function logSoftmaxModel(): Uint8Array {
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
