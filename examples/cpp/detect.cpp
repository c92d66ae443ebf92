// detect MODEL PHOTO.jpg... [--threshold 0.5]: detections as JSON, as `frcnn predict --json -` prints them.
//
// MODEL is a file that `frcnn export --to openvino` (FILE.xml) or `--to onnx` (FILE.onnx) wrote; everything that is needed
// besides (class names, how to resize a photo) is in it. The runtime is OpenVINO, the decoder libjpeg.

#include <openvino/openvino.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace {

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> rgb;  // height x width x 3
};

struct Detection {
  std::string name;
  float score;
  float box[4];  // x1, y1, x2, y2, pixels of the photo
};

// ---------------------------------------------------------------------------------------------------- reading photos

[[noreturn]] void fail(j_common_ptr info) {
  char message[JMSG_LENGTH_MAX];
  info->err->format_message(info, message);
  throw std::runtime_error(message);
}

// The EXIF tag that says how a photo is to be turned: 1 to 8.
int orientation(const jpeg_decompress_struct& info) {
  for (auto marker = info.marker_list; marker; marker = marker->next) {
    const uint8_t* data = marker->data;
    const size_t size = marker->data_length;
    if (marker->marker != JPEG_APP0 + 1 || size < 14 || std::string(data, data + 4) != "Exif") continue;
    const bool little = data[6] == 'I';
    auto number = [&](size_t at, int bytes) -> size_t {
      size_t value = 0;
      if (at + bytes > size) return 0;
      for (int i = 0; i < bytes; i++) value = value * 256 + data[little ? at + bytes - 1 - i : at + i];
      return value;
    };
    const size_t directory = 6 + number(10, 4);
    for (size_t i = 0; i < number(directory, 2); i++) {
      const size_t entry = directory + 2 + 12 * i;
      if (number(entry, 2) == 0x0112) return std::clamp<int>(number(entry + 8, 2), 1, 8);
    }
  }
  return 1;
}

Image upright(const Image& stored, int orientation) {
  if (orientation == 1) return stored;
  const bool swapped = orientation >= 5;  // rows become columns
  Image turned;
  turned.height = swapped ? stored.width : stored.height;
  turned.width = swapped ? stored.height : stored.width;
  turned.rgb.resize(stored.rgb.size());
  for (int y = 0; y < turned.height; y++) {
    for (int x = 0; x < turned.width; x++) {
      int row = swapped ? x : y, column = swapped ? y : x;
      if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) {
        (swapped ? column : row) = (swapped ? stored.width : stored.height) - 1 - (swapped ? column : row);
      }
      if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7) {
        (swapped ? row : column) = (swapped ? stored.height : stored.width) - 1 - (swapped ? row : column);
      }
      std::copy_n(&stored.rgb[3 * (size_t(row) * stored.width + column)], 3,
                  &turned.rgb[3 * (size_t(y) * turned.width + x)]);
    }
  }
  return turned;
}

Image read_jpeg(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) throw std::runtime_error("cannot be opened");
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  errors.error_exit = fail;
  jpeg_create_decompress(&info);
  Image image;
  try {
    jpeg_stdio_src(&info, file);
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    image.height = info.output_height;
    image.width = info.output_width;
    image.rgb.resize(size_t(3) * image.height * image.width);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = &image.rgb[size_t(3) * image.width * info.output_scanline];
      jpeg_read_scanlines(&info, &row, 1);
    }
    image = upright(image, orientation(info));
  } catch (...) {
    jpeg_destroy_decompress(&info);
    std::fclose(file);
    throw;
  }
  jpeg_destroy_decompress(&info);
  std::fclose(file);
  return image;
}

// ---------------------------------------------------------------------------------------------------------- resizing

// For one place of the result: the first pixel that counts, and how much each from there on does, in 22-bit fixed point.
struct Place {
  int first;
  std::vector<int32_t> parts;
};

// Bilinear, with a triangle as wide as the shrinking asks for: to the bit what Pillow does. (Newer ones begin with the
// columns where photos are more than twice as tall as wide, which gives one gray level more or less.)
std::vector<Place> weights(int size, int new_size) {
  const double scale = double(size) / new_size, support = std::max(scale, 1.0);
  std::vector<Place> places(new_size);
  for (int place = 0; place < new_size; place++) {
    const double center = (place + 0.5) * scale;
    const int first = std::max(0, int(center - support + 0.5)), last = std::min(size, int(center + support + 0.5));
    std::vector<double> parts;
    double total = 0;
    for (int i = first; i < last; i++) {
      parts.push_back(std::max(0.0, 1 - std::abs((i - center + 0.5) / support)));
      total += parts.back();
    }
    places[place].first = first;
    for (double part : parts) places[place].parts.push_back(int32_t(part / total * (1 << 22) + 0.5));
  }
  return places;
}

// Lines of pixels to lines of weighted sums. Steps are in bytes: from a line to the next one, and from a pixel to the next
// one along a line.
void filter(const uint8_t* source, uint8_t* target, const std::vector<Place>& places, int lines, size_t source_line,
            size_t target_line, size_t pixel) {
  for (int line = 0; line < lines; line++) {
    for (size_t place = 0; place < places.size(); place++) {
      const auto& [first, parts] = places[place];
      for (int channel = 0; channel < 3; channel++) {
        const uint8_t* from = source + line * source_line + first * pixel + channel;
        int32_t sum = 1 << 21;
        for (size_t i = 0; i < parts.size(); i++) sum += from[i * pixel] * parts[i];
        target[line * target_line + place * pixel + channel] = uint8_t(std::min(255, sum >> 22));
      }
    }
  }
}

Image resize(const Image& image, int height, int width) {
  std::vector<uint8_t> narrow(size_t(3) * image.height * width);
  filter(image.rgb.data(), narrow.data(), weights(image.width, width), image.height, 3 * image.width, 3 * width, 3);
  Image small{height, width, std::vector<uint8_t>(size_t(3) * height * width)};
  filter(narrow.data(), small.rgb.data(), weights(image.height, height), width, 3, 3, size_t(3) * width);
  return small;
}

// --------------------------------------------------------------------------------------------------------- detecting

class Detector {
 public:
  explicit Detector(const std::string& path) {
    ov::Core core;
    auto model = core.read_model(path);
    if (model->has_rt_info("framework")) description_ = model->get_rt_info<ov::AnyMap>("framework");
    if (say("format") != "frcnn") throw std::runtime_error("`frcnn export` did not write this file");
    if (number("format_version") > 2) throw std::runtime_error("a file of a newer format; update this program");
    if (say("image.antialias") != "true") throw std::runtime_error("resizing without antialiasing is not there");
    std::istringstream names(say("classes"));
    for (std::string name; std::getline(names, name);) classes_.push_back(name);
    // Left alone, OpenVINO computes in bfloat16 wherever a processor can, also what was exported as float32. Told to, it does
    // where a processor cannot too, much slower.
    const auto can = core.get_property("CPU", ov::device::capabilities);
    const bool bf16 = say("precision") == "bf16" && std::count(can.begin(), can.end(), "BF16") > 0;
    const auto precision = bf16 ? ov::element::bf16 : ov::element::f32;
    request_ = core.compile_model(model, "CPU", ov::hint::inference_precision(precision)).create_infer_request();
  }

  std::vector<Detection> operator()(const Image& photo, float score_threshold) {
    const bool fit = say("image.resize") == "fit";
    const double longer = std::max(photo.height, photo.width), shorter = std::min(photo.height, photo.width);
    const double scale =
        fit ? std::min(number("image.height") / double(photo.height), number("image.width") / double(photo.width))
            : std::min(number("image.shorter_side") / shorter, number("image.longer_side") / longer);
    const int height = std::max(1, int(std::nearbyint(photo.height * scale)));
    const int width = std::max(1, int(std::nearbyint(photo.width * scale)));
    const Image small = resize(photo, height, width);
    const int divisor = number("image.divisor");
    const int frame_height = fit ? number("image.height") : (height + divisor - 1) / divisor * divisor;
    const int frame_width = fit ? number("image.width") : (width + divisor - 1) / divisor * divisor;

    if (std::min(frame_height, frame_width) < number("min_side"))
      throw std::runtime_error("resized to " + std::to_string(frame_height) + " x " + std::to_string(frame_width) +
                               " pixels; the model needs " + say("min_side") + " on each side");

    const size_t batch = say("batch") == "any" ? 1 : number("batch");  // a fixed batch is filled up with the photo
    request_.set_tensor("images", frames(small, batch, frame_height, frame_width));
    request_.set_tensor("image_sizes", sizes(height, width, batch));
    request_.set_tensor("original_sizes", sizes(photo.height, photo.width, batch));
    request_.infer();

    const auto boxes = request_.get_tensor("boxes"), scores = request_.get_tensor("scores");
    const auto labels = request_.get_tensor("labels"), valid = request_.get_tensor("valid");
    std::vector<Detection> found;
    for (size_t i = 0; i < scores.get_shape()[1]; i++) {
      const float score = scores.data<float>()[i];
      if (!static_cast<const char*>(valid.data())[i] || score < score_threshold) break;  // scores fall
      Detection one{classes_.at(labels.data<int64_t>()[i] - 1), score, {}};  // 0 is background
      std::copy_n(boxes.data<float>() + 4 * i, 4, one.box);
      found.push_back(one);
    }
    return found;
  }

 private:
  std::string say(const std::string& key) const {
    const auto found = description_.find(key);
    return found == description_.end() ? "" : found->second.as<std::string>();
  }
  int number(const std::string& key) const { return std::stoi(say(key)); }

  // The photo in the upper left corner of every frame.
  ov::Tensor frames(const Image& image, size_t batch, size_t height, size_t width) const {
    const bool bytes = say("input") == "uint8";
    const ov::Shape shape = bytes ? ov::Shape{batch, height, width, 3} : ov::Shape{batch, 3, height, width};
    ov::Tensor tensor(bytes ? ov::element::u8 : ov::element::f32, shape);
    std::fill_n(static_cast<uint8_t*>(tensor.data()), tensor.get_byte_size(), uint8_t(0));
    for (size_t b = 0; b < batch; b++) {
      for (int y = 0; y < image.height; y++) {
        for (int x = 0; x < image.width; x++) {
          for (size_t c = 0; c < 3; c++) {
            const uint8_t value = image.rgb[3 * (size_t(y) * image.width + x) + c];
            if (bytes) tensor.data<uint8_t>()[((b * height + y) * width + x) * 3 + c] = value;
            else tensor.data<float>()[((b * 3 + c) * height + y) * width + x] = value;
          }
        }
      }
    }
    return tensor;
  }

  static ov::Tensor sizes(int height, int width, size_t batch) {
    ov::Tensor tensor(ov::element::f32, {batch, 2});
    for (size_t b = 0; b < batch; b++) {
      tensor.data<float>()[2 * b] = float(height);
      tensor.data<float>()[2 * b + 1] = float(width);
    }
    return tensor;
  }

  ov::AnyMap description_;
  std::vector<std::string> classes_;
  ov::InferRequest request_;
};

std::string quoted(const std::string& text) {
  std::ostringstream out;
  out << '"';
  for (unsigned char letter : text) {
    if (letter == '"' || letter == '\\') out << '\\' << letter;
    else if (letter < 0x20) out << "\\u" << std::hex << std::setw(4) << std::setfill('0') << int(letter) << std::dec;
    else out << letter;
  }
  out << '"';
  return out.str();
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> words(arguments + 1, arguments + count);
  float score_threshold = 0.5f;
  const auto option = std::find(words.begin(), words.end(), "--threshold");
  if (words.end() - option >= 2) {
    score_threshold = std::strtof(option[1].c_str(), nullptr);
    words.erase(option, option + 2);
  }
  if (words.size() < 2) {
    std::cerr << "usage: detect MODEL PHOTO.jpg... [--threshold 0.5]\n";
    return 2;
  }
  std::string path = words[0];
  try {
    Detector detect(path);
    std::cout << std::fixed << "[";
    for (size_t i = 1; i < words.size(); i++) {
      path = words[i];
      std::cout << (i > 1 ? ",\n " : "\n ") << "{\"image\": " << quoted(path) << ", \"detections\": [";
      const char* comma = "";
      for (const auto& one : detect(read_jpeg(path), score_threshold)) {
        std::cout << comma << "\n  {\"class\": " << quoted(one.name) << ", \"score\": " << std::setprecision(6) << one.score
                  << std::setprecision(3) << ", \"box\": [" << one.box[0] << ", " << one.box[1] << ", " << one.box[2] << ", "
                  << one.box[3] << "]}";
        comma = ",";
      }
      std::cout << "]}";
    }
    std::cout << "\n]\n";
  } catch (const std::exception& error) {
    std::cerr << "detect: " << path << ": " << error.what() << "\n";
    return 2;
  }
}
