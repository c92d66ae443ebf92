// dotnet run -- MODEL.onnx PHOTO... : detections as JSON, as `frcnn predict --json -` prints them.
//
// MODEL.onnx is a file that `frcnn export` wrote; everything that is needed besides (class names, how to resize a photo)
// is in it.

using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using SkiaSharp;

if (args.Length < 2)
{
    Console.Error.WriteLine("usage: dotnet run -- MODEL.onnx PHOTO...");
    return 2;
}
OrtEnv.Instance().DisableTelemetryEvents(); // those that Windows collects
using var detector = new Detector(args[0]);
var results = args.Skip(1).Select(path => new { image = path, detections = detector.Detect(Photo.Read(path)) });
Console.WriteLine(JsonSerializer.Serialize(results, new JsonSerializerOptions { WriteIndented = true }));
return 0;

record Detection(
    [property: System.Text.Json.Serialization.JsonPropertyName("class")] string Name,
    [property: System.Text.Json.Serialization.JsonPropertyName("score")] float Score,
    [property: System.Text.Json.Serialization.JsonPropertyName("box")] float[] Box);

sealed class Detector : IDisposable
{
    private const float MinScore = 0.5f;
    private readonly InferenceSession session;
    private readonly Dictionary<string, string> description;
    private readonly string[] classes;

    public Detector(string path)
    {
        session = new InferenceSession(path);
        description = session.ModelMetadata.CustomMetadataMap;
        if (description.GetValueOrDefault("format") != "frcnn") throw new InvalidDataException($"{path}: not of frcnn");
        if (int.Parse(description["format_version"]) > 2) throw new InvalidDataException($"{path}: a newer format");
        if (description["image.antialias"] != "true" || description["input"] != "uint8")
            throw new NotSupportedException($"{path}: this program takes bytes, resized with antialiasing");
        classes = description["classes"].Split('\n');
    }

    public List<Detection> Detect(Photo photo)
    {
        var fit = description["image.resize"] == "fit";
        double longer = Math.Max(photo.Height, photo.Width), shorter = Math.Min(photo.Height, photo.Width);
        var scale = fit
            ? Math.Min(Rule("height") / (double)photo.Height, Rule("width") / (double)photo.Width)
            : Math.Min(Rule("shorter_side") / shorter, Rule("longer_side") / longer);
        // Math.Round rounds halves to even numbers, as the training did.
        int height = Math.Max(1, (int)Math.Round(photo.Height * scale));
        int width = Math.Max(1, (int)Math.Round(photo.Width * scale));
        int Up(int side) => (side + Rule("divisor") - 1) / Rule("divisor") * Rule("divisor");
        var (frameHeight, frameWidth) = fit ? (Rule("height"), Rule("width")) : (Up(height), Up(width));
        if (Math.Min(frameHeight, frameWidth) < int.Parse(description["min_side"]))
            throw new InvalidDataException($"resized to {frameHeight} x {frameWidth} pixels; the model needs {description["min_side"]} on each side");
        var batch = description["batch"] == "any" ? 1 : int.Parse(description["batch"]); // a fixed batch is filled up

        var small = photo.Resize(height, width);
        var frame = new byte[batch * frameHeight * frameWidth * 3]; // the photo in the upper left corner of each
        for (var b = 0; b < batch; b++)
            for (var y = 0; y < height; y++)
                Array.Copy(small.Rgb, 3 * y * width, frame, 3 * (b * frameHeight + y) * frameWidth, 3 * width);
        DenseTensor<float> Sizes(int h, int w) =>
            new(Enumerable.Repeat(new float[] { h, w }, batch).SelectMany(pair => pair).ToArray(), new[] { batch, 2 });
        using var outputs = session.Run(new[]
        {
            NamedOnnxValue.CreateFromTensor("images", new DenseTensor<byte>(frame, new[] { batch, frameHeight, frameWidth, 3 })),
            NamedOnnxValue.CreateFromTensor("image_sizes", Sizes(height, width)),
            NamedOnnxValue.CreateFromTensor("original_sizes", Sizes(photo.Height, photo.Width)),
        });
        Tensor<T> Output<T>(string name) => outputs.First(output => output.Name == name).AsTensor<T>();
        var (boxes, scores) = (Output<float>("boxes"), Output<float>("scores"));
        var (labels, valid) = (Output<long>("labels"), Output<bool>("valid"));
        var found = new List<Detection>();
        for (var i = 0; i < scores.Dimensions[1] && valid[0, i] && scores[0, i] >= MinScore; i++) // scores fall
            found.Add(new Detection(
                classes[labels[0, i] - 1], // 0 is background
                scores[0, i],
                new[] { boxes[0, i, 0], boxes[0, i, 1], boxes[0, i, 2], boxes[0, i, 3] }));
        return found;
    }

    private int Rule(string name) => int.Parse(description[$"image.{name}"]);

    public void Dispose() => session.Dispose();
}

sealed record Photo(int Height, int Width, byte[] Rgb)
{
    public static Photo Read(string path)
    {
        using var codec = SKCodec.Create(path) ?? throw new InvalidDataException($"{path}: not an image");
        using var bitmap = SKBitmap.Decode(codec, new SKImageInfo(codec.Info.Width, codec.Info.Height, SKColorType.Rgba8888, SKAlphaType.Unpremul));
        var (pixels, stored) = (bitmap.Bytes, (bitmap.Height, bitmap.Width));
        var turn = (int)codec.EncodedOrigin; // the EXIF tag, 1 to 8
        var swapped = turn >= 5; // rows become columns
        var (height, width) = swapped ? (stored.Width, stored.Height) : stored;
        var rgb = new byte[3 * height * width];
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++)
            {
                var (row, column) = swapped ? (x, y) : (y, x);
                if (turn is 3 or 4 or 7 or 8)
                {
                    if (swapped) column = stored.Width - 1 - column;
                    else row = stored.Height - 1 - row;
                }
                if (turn is 2 or 3 or 6 or 7)
                {
                    if (swapped) row = stored.Height - 1 - row;
                    else column = stored.Width - 1 - column;
                }
                Array.Copy(pixels, 4 * (row * stored.Width + column), rgb, 3 * (y * width + x), 3);
            }
        return new Photo(height, width, rgb);
    }

    // Bilinear, with a triangle as wide as the shrinking asks for, in 22-bit fixed point: to the bit what Pillow does. (Newer
    // ones begin with the columns where photos are more than twice as tall as wide, which gives one gray level more or less.)
    public Photo Resize(int height, int width)
    {
        var narrow = new byte[3 * Height * width];
        Filter(Rgb, narrow, Weights(Width, width), Height, 3 * Width, 3 * width, 3);
        var small = new byte[3 * height * width];
        Filter(narrow, small, Weights(Height, height), width, 3, 3, 3 * width);
        return new Photo(height, width, small);
    }

    // For each place of the result, the first pixel that counts, and how much each from there on does.
    private static (int First, int[] Parts)[] Weights(int size, int newSize)
    {
        var scale = (double)size / newSize;
        var support = Math.Max(scale, 1);
        return Enumerable.Range(0, newSize).Select(place =>
        {
            var center = (place + 0.5) * scale;
            int first = Math.Max(0, (int)(center - support + 0.5)), last = Math.Min(size, (int)(center + support + 0.5));
            var parts = Enumerable.Range(first, last - first)
                .Select(i => Math.Max(0, 1 - Math.Abs((i - center + 0.5) / support))).ToArray();
            var total = parts.Sum();
            return (first, parts.Select(part => (int)(part / total * (1 << 22) + 0.5)).ToArray());
        }).ToArray();
    }

    // Steps are in bytes: from a line to the next one, and from a pixel to the next one along a line.
    private static void Filter(byte[] source, byte[] target, (int First, int[] Parts)[] places, int lines, int sourceLine, int targetLine, int pixel)
    {
        for (var line = 0; line < lines; line++)
            for (var place = 0; place < places.Length; place++)
                for (var channel = 0; channel < 3; channel++)
                {
                    var (first, parts) = places[place];
                    var sum = 1 << 21;
                    for (var i = 0; i < parts.Length; i++)
                        sum += source[line * sourceLine + (first + i) * pixel + channel] * parts[i];
                    target[line * targetLine + place * pixel + channel] = (byte)Math.Min(255, sum >> 22);
                }
    }
}
